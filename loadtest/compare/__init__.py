"""Whether a service became slower or refuses more between runs. Pure: nothing is read, sent or drawn here."""
