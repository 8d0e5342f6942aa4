-- Persons: who may answer for a release, and who signs data. One person has one identity, under whatever name he comes: Airflow's, a database
-- login's, the operating system's. Written by the superuser alone (`nightshift person`): a worker's login that could add
-- a person could be the second pair of eyes to its own work.

-- A name is plain ASCII, so that no two names look alike but for l and 1, o and 0; `schedule` is the clock, which is nobody.
create table release.person (
    name text primary key check (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$' and name <> 'schedule'),
    airflow_id text unique, -- as Airflow's login names him; null: he has none
    login text unique, -- his own database login, a member of `approvers`; null: he has none
    approver boolean not null, -- may let a release through
    added_by text not null default session_user,
    added_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz, -- answers count no more; what he answered stands
    data_owner boolean not null default false, -- may sign that a new source is trained on
    privacy_reviewer boolean not null default false -- may sign that personal data is
);

-- Every name that a person is recorded under: his own, Airflow's, and others such as `os:maria`.
create table release.person_alias (
    alias text primary key check (alias ~ '^[!-~]{1,128}$' and lower(alias) <> 'schedule'),
    person text not null references release.person
);

-- guard_alias: an alias is one person's, also where another writes it in other case.
create function release.guard_alias() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_other text;
begin
    lock table release.person_alias in share row exclusive mode;
    select a.person into v_other from release.person_alias a
    where lower(a.alias) = lower(new.alias) and a.person <> new.person limit 1;
    if v_other is not null then
        raise exception '% is %, not %', new.alias, v_other, new.person using errcode = 'NS025';
    end if;
    return new;
end
$$;
create trigger guard_alias before insert or update on release.person_alias
for each row execute function release.guard_alias();

-- guard_login: a person's login is a login of his own: none that a worker has, and no superuser.
create function release.guard_login() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if new.login is not null and not exists (
        select from pg_roles r
        join pg_auth_members m on m.member = r.oid
        join pg_roles g on g.oid = m.roleid and g.rolname = 'approvers'
        where r.rolname = new.login and r.rolcanlogin and not r.rolsuper
          and not pg_has_role(r.oid, 'nightshift_owner', 'member')
          and r.rolname not in ('pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver', 'gatekeeper')
    ) then
        raise exception '% is no login of a person: a member of `approvers` that no worker has', new.login using errcode = 'NS025';
    end if;
    return new;
end
$$;
create trigger guard_login before insert or update on release.person
for each row execute function release.guard_login();

-- name_person: a person's own name and Airflow's for him are aliases, in the namespace of all the others.
create function release.name_person() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into release.person_alias as a (alias, person)
    select n.alias, new.name from unnest(array[new.name, new.airflow_id]) n (alias)
    where n.alias is not null
      and not exists (select from release.person_alias e where e.alias = n.alias and e.person = new.name)
    group by n.alias;
    return null;
end
$$;
create trigger name_person after insert or update on release.person
for each row execute function release.name_person();

-- add_person: a new person, or what is new about one who is known. An id or a login is never exchanged for another.
create function release.add_person(
    p_name text, p_airflow_id text, p_login text, p_approver boolean, p_data_owner boolean, p_privacy_reviewer boolean, p_aliases text[])
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_known release.person;
begin
    select * into v_known from release.person p where p.name = p_name for update;
    if v_known.name is null then
        insert into release.person (name, airflow_id, login, approver, data_owner, privacy_reviewer)
        values (p_name, p_airflow_id, p_login, p_approver, p_data_owner, p_privacy_reviewer);
    elsif v_known.airflow_id <> p_airflow_id or v_known.login <> p_login then
        raise exception '% has another id or login', p_name using errcode = 'NS025';
    else
        update release.person p
        set airflow_id = coalesce(p_airflow_id, p.airflow_id), login = coalesce(p_login, p.login), approver = p_approver,
            data_owner = p_data_owner, privacy_reviewer = p_privacy_reviewer, ended_at = null
        where p.name = p_name;
    end if;
    insert into release.person_alias (alias, person)
    select distinct n.alias, p_name from unnest(p_aliases) n (alias)
    where not exists (select from release.person_alias e where e.alias = n.alias and e.person = p_name);
    return p_name;
exception when unique_violation or check_violation then
    raise exception '%', sqlerrm using errcode = 'NS025';
end
$$;

-- end_person: his answers count no more.
create function release.end_person(p_name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update release.person p set ended_at = clock_timestamp() where p.name = p_name and p.ended_at is null;
    if not found then
        raise exception 'no person is called %', p_name using errcode = 'NS021';
    end if;
end
$$;

-- person_of: the one name of whoever is recorded under this one; null where that is no person who is known.
create function release.person_of(p_text text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select a.person from release.person_alias a where a.alias = p_text
$$;

-- whoami: the person whose own login this session is; null for a worker's.
create function release.whoami() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.name from release.person p where p.login = session_user and p.ended_at is null
$$;

-- impersonal: a name that no person can have: the clock, or one with a colon in it that is nobody's alias (`os:root`).
create function release.impersonal(p_text text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select release.person_of(p_text) is null and (p_text = 'schedule' or p_text ~ '^[a-z]+:[!-~]+$')
$$;
