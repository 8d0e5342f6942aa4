-- versions --
-- The versions of the server and of pgvector.
select current_setting('server_version') as server,
       (select extversion from pg_extension where extname = 'vector') as vector;
