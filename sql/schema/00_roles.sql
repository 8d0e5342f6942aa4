-- Roles. The superuser runs this file and nothing else; every other object belongs to nightshift_owner, whom nobody
-- can log in as. Each kind of work has a login of its own. Roles belong to the whole server, so they may exist already.
do $$
declare
    name text;
begin
    if not exists (select from pg_roles where rolname = 'nightshift_owner') then
        create role nightshift_owner nologin;
    end if;
    foreach name in array array['pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver', 'gatekeeper'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I login nosuperuser nocreatedb nocreaterole nobypassrls noinherit', name);
        end if;
        execute format('grant connect on database %I to %I', current_database(), name);
        execute format('alter role %I in database %I set timezone to ''UTC''', name, current_database());
    end loop;
    -- Persons' own logins are members of this group, and of no other.
    if not exists (select from pg_roles where rolname = 'approvers') then
        create role approvers nologin nosuperuser nocreatedb nocreaterole nobypassrls;
    end if;
    execute format('grant connect on database %I to approvers', current_database());
    -- Only those who are named may connect, and nobody may leave objects in the public schema.
    execute format('revoke all on database %I from public', current_database());
    execute format('grant temporary on database %I to pipeline', current_database());
end
$$;

revoke create on schema public from public;
create extension if not exists vector schema public;

create schema lineage authorization nightshift_owner;
create schema catalog authorization nightshift_owner;
create schema rag authorization nightshift_owner;
create schema eval authorization nightshift_owner;
create schema release authorization nightshift_owner;
create schema audit authorization nightshift_owner;

set local role nightshift_owner;
alter default privileges for role nightshift_owner revoke execute on functions from public;
