"""A workflow of one's own, as small as it can be: a plain function, which the reference API runs in a thread."""


def plain(name: str = "World") -> dict[str, str]:
    """Say hello."""
    return {"greeting": f"Hello, {name}!"}
