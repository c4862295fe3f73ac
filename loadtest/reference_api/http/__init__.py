"""HTTP as the server speaks it: what is read, what is answered, and clients that hang up meanwhile."""
