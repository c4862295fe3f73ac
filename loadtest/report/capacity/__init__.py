"""What a capacity search found -> a page, Markdown and a picture, from its ``capacity.json`` alone."""
