"""The only room with SQL: tables, migrations, units of work, and what is sealed at rest."""
