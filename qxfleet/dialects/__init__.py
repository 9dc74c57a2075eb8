"""What UPSes say, as tables. Data only: a table that needs code shows that :mod:`.spec` lacks a word."""
