-- Audit: who did what, by ids and digests. Triggers write an event in the acting transaction, so that it stands if and
-- only if the act does. A sealer chains committed events in batches; writers take no common lock, and an open
-- transaction keeps nobody waiting: its events go into a later block.

create table audit.event (
    event_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    login text not null default session_user,
    object text not null,
    operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE')),
    key jsonb not null
);

create table audit.block (
    block_no bigint primary key check (block_no > 0),
    previous_hash bytea not null,
    hash bytea not null,
    events int not null check (events > 0),
    sealed_at timestamptz not null default clock_timestamp()
);

create table audit.block_member (
    event_id bigint primary key references audit.event,
    block_no bigint not null references audit.block
);
create index block_member_by_block on audit.block_member (block_no);

-- record: the columns named by the trigger, and nothing else, go into the event.
create function audit.record() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_row jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
begin
    insert into audit.event (object, operation, key)
    select tg_table_schema || '.' || tg_table_name, tg_op, coalesce(jsonb_object_agg(name, v_row -> name), '{}')
    from unnest(tg_argv) as name;
    return null;
end
$$;

create trigger audited after insert or update or delete on lineage.deployment for each row execute function
    audit.record('deployment_id', 'use_case', 'alias', 'model_version_id', 'index_version_id', 'decision_id', 'replaces', 'promoted_by', 'valid_to');
create trigger audited after insert or update or delete on lineage.artifact_version for each row execute function
    audit.record('version_id', 'artifact_id', 'digest', 'purged_at');
create trigger audited after insert or update or delete on catalog.dataset_version for each row execute function
    audit.record('dataset_id', 'version', 'digest');
create trigger audited after insert or update or delete on catalog.document_version for each row execute function
    audit.record('document_version_id', 'document_id', 'digest', 'classification', 'groups', 'status', 'retain_until');
create trigger audited after insert or update or delete on catalog.steward_decision for each row execute function
    audit.record('steward_decision_id', 'finding_id', 'decision', 'person');
create trigger audited after insert or update or delete on catalog.tombstone for each row execute function
    audit.record('hmac', 'use_case', 'kind');
create trigger audited after insert or update or delete on rag.generation for each row execute function
    audit.record('generation_id', 'use_case', 'state', 'digest');
create trigger audited after insert or update or delete on rag.withdrawal for each row execute function
    audit.record('seq', 'use_case', 'document_key');
create trigger audited after insert or update or delete on rag.principal for each row execute function
    audit.record('use_case', 'name', 'tenant', 'groups', 'clearance');
create trigger audited after insert or update or delete on release.person for each row execute function
    audit.record('name', 'airflow_id', 'login', 'approver', 'ended_at');
create trigger audited after insert or update or delete on release.person_alias for each row execute function
    audit.record('alias', 'person');
create trigger audited after insert or update or delete on release.policy for each row execute function
    audit.record('policy_id', 'use_case', 'digest', 'sealed_by');
create trigger audited after insert or update or delete on release.sealing for each row execute function
    audit.record('sealing_id', 'policy_id', 'use_case', 'sealed_by');
create trigger audited after insert or update or delete on release.decision for each row execute function
    audit.record('decision_id', 'use_case', 'kind', 'policy_id', 'model_version_id', 'index_version_id', 'replaces', 'outcome', 'requested_by');
create trigger audited after insert or update or delete on release.approval for each row execute function
    audit.record('approval_id', 'decision_id', 'answer', 'person');
create trigger audited after insert or update or delete on release.waiver for each row execute function
    audit.record('waiver_id', 'decision_id', 'check_name', 'person', 'expires_at');

-- event_hash: over every column, in a form that does not depend on a session's settings.
create function audit.event_hash(e audit.event) returns bytea
language sql stable set search_path = pg_catalog, pg_temp as $$
    select sha256(convert_to(jsonb_build_array(
        e.event_id, to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), e.login, e.object, e.operation, e.key)::text, 'UTF8'))
$$;

create function audit.block_hash(p_previous bytea, p_events bigint[]) returns bytea
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select sha256(p_previous || coalesce(string_agg(audit.event_hash(e), ''::bytea order by e.event_id), ''::bytea))
    from audit.event e where e.event_id = any (p_events)
$$;

-- seal: chains what is committed and not yet chained. Returns the new head, or nothing when there was nothing to seal.
create function audit.seal(p_limit int default 10000) returns table (block_no bigint, hash text, events int)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_events bigint[];
    v_previous bytea;
    v_block bigint;
    v_hash bytea;
begin
    perform pg_advisory_xact_lock(hashtextextended('audit.seal', 0));
    select array_agg(e.event_id) into v_events from (
        select e.event_id from audit.event e
        where not exists (select from audit.block_member m where m.event_id = e.event_id)
        order by e.event_id limit p_limit
    ) e;
    if v_events is null then
        return;
    end if;
    select b.block_no, b.hash into v_block, v_previous from audit.block b order by b.block_no desc limit 1;
    v_block := coalesce(v_block, 0) + 1;
    v_previous := coalesce(v_previous, sha256(''::bytea));
    v_hash := audit.block_hash(v_previous, v_events);
    insert into audit.block (block_no, previous_hash, hash, events) values (v_block, v_previous, v_hash, cardinality(v_events));
    insert into audit.block_member (event_id, block_no) select id, v_block from unnest(v_events) id;
    return query select v_block, encode(v_hash, 'hex'), cardinality(v_events);
end
$$;

-- verify: every block that does not hash as recorded, does not follow its predecessor, or has lost a member.
create function audit.verify() returns table (block_no bigint, problem text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with chained as (
        select b.*, lag(b.hash, 1, sha256(''::bytea)) over (order by b.block_no) as before,
               lag(b.block_no, 1, 0::bigint) over (order by b.block_no) as place,
               coalesce((select array_agg(m.event_id) from audit.block_member m where m.block_no = b.block_no), '{}') as members
        from audit.block b
    )
    select c.block_no, case
        when c.block_no <> c.place + 1 then 'a block before it is missing'
        when c.previous_hash <> c.before then 'it does not follow the block before it'
        when cardinality(c.members) <> c.events then 'an event was added or is missing'
        else 'its events do not hash to what was sealed' end
    from chained c
    where c.block_no <> c.place + 1 or c.previous_hash <> c.before or cardinality(c.members) <> c.events
       or audit.block_hash(c.previous_hash, c.members) <> c.hash
    order by c.block_no
$$;
