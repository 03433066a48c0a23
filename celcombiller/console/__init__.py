"""The console: pages for operators, sellers and subscribers. Each shows, and asks, what the routes of the API do."""
