"""What keeps an installation going: its health, its records' upkeep, the schema, and questions about all of it."""
