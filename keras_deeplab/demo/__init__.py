"""A static page that segments in the browser: `page` makes it, `runtime` fetches LiteRT, `server` shows it."""

__all__ = ["page", "runtime", "server"]
