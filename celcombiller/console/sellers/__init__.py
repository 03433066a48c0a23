"""Pages of sellers, who sell credit on a phone."""
