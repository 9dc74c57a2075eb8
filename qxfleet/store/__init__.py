"""What is remembered: SQLite or PostgreSQL through SQLAlchemy Core; knows the model and nothing above it."""
