-- The locked test split: nobody but the login that commits it selects it, and each reading for an evaluation is on record before a row
-- is handed out.

create table catalog.locked_reading (
    locked_reading_id bigint generated always as identity primary key,
    dataset_id bigint not null,
    version int not null,
    login text not null default session_user,
    announced_at timestamptz not null default clock_timestamp(),
    transaction xid8 not null default pg_current_xact_id(), -- rows are handed out once it has been committed
    read_at timestamptz,
    rows bigint,
    foreign key (dataset_id, version) references catalog.dataset_version
);

-- announce_locked_reading: says that the locked rows of a dataset version are about to be read. Returns the number to read them by. The
-- same content may have been committed twice: the newest version of it is the one that is read.
create function catalog.announce_locked_reading(p_artifact bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_reading bigint;
begin
    insert into catalog.locked_reading (dataset_id, version)
    select v.dataset_id, v.version
    from catalog.dataset_version v join catalog.dataset d on d.dataset_id = v.dataset_id and d.kind = 'examples'
    where v.artifact_version_id = p_artifact order by v.version desc limit 1
    returning locked_reading_id into v_reading;
    if v_reading is null then
        raise exception 'artifact version % is no version of examples', p_artifact using errcode = 'NS021';
    end if;
    return v_reading;
end
$$;

-- read_locked: the locked rows of an announced reading, erased ones left out: to the login that announced it, within a minute and once. A
-- reading that is rolled back may be done again within the minute: it is on record all the same.
create function catalog.read_locked(p_reading bigint) returns table (digest text, kind text, content jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    v_reading catalog.locked_reading;
    v_rows bigint;
begin
    select * into v_reading from catalog.locked_reading r where r.locked_reading_id = p_reading for update;
    if v_reading.locked_reading_id is null or v_reading.login <> session_user or v_reading.read_at is not null
       or pg_xact_status(v_reading.transaction) is distinct from 'committed'
       or not v_reading.announced_at between clock_timestamp() - interval '60 seconds' and clock_timestamp() + interval '60 seconds' then
        raise exception 'the locked rows are not to be had by reading %: they are given once, within a minute, to the login that announced'
            ' it, after that was committed', p_reading using errcode = 'NS045';
    end if;
    return query
    select e.digest, e.kind, e.content
    from catalog.dataset d
    cross join lateral catalog.example_members(d.dataset_id, v_reading.version) m
    join catalog.locked_example e on e.use_case = d.use_case and e.digest = m.example_digest
    where d.dataset_id = v_reading.dataset_id and m.split = 'test' and e.content is not null
    order by e.digest;
    get diagnostics v_rows = row_count;
    update catalog.locked_reading r set read_at = clock_timestamp(), rows = v_rows
    where r.locked_reading_id = p_reading;
end
$$;

-- locked_readings: when which login read the locked test split of which version.
create view catalog.locked_readings as
select r.locked_reading_id, d.use_case, r.version, r.login, r.announced_at, r.read_at, r.rows
from catalog.locked_reading r join catalog.dataset d using (dataset_id);
