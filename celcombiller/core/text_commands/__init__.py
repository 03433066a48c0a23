"""Commands that subscribers and sellers send by text message."""
