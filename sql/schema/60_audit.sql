-- Audit: who did what, by ids and digests. Triggers write an event in the acting transaction, so that it stands if and
-- only if the act does. A sealer chains committed events in batches; writers take no common lock, and an open
-- transaction keeps nobody waiting: its events go into a later block.

create table audit.event (
    event_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    login text not null default session_user,
    object text not null,
    operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE', 'COVER')), -- COVER: as it stood when that began
    key jsonb not null, -- what an event shows of its row
    row_key jsonb, -- which row
    digest text -- of the whole row as it was written, or as it was when it was deleted
);
create index event_by_row on audit.event (object, row_key, event_id);

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

-- Which tables are covered: what identifies a row, what of it an event shows (ids, names and states, no text), the texts that
-- can be erased, and what changes without meaning anything. Kept by audit.cover alone.
create table audit.covered (
    object text primary key,
    row_key text[] not null,
    shown text[] not null,
    erasable text[] not null,
    ignored text[] not null
);

create function audit.pick(p_row jsonb, p_columns text[]) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(jsonb_object_agg(name, p_row -> name), '{}') from unnest(p_columns) name
$$;

-- row_digest: of every column of a row but the ignored ones; a text that can be erased counts by its own digest. A column
-- that is null counts as none, so that one which is added later changes no digest.
create function audit.row_digest(p_row jsonb, p_erasable text[], p_ignored text[]) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(coalesce(jsonb_object_agg(c.key, case
               when c.key = any (p_erasable) then to_jsonb(encode(sha256(convert_to(c.value::text, 'UTF8')), 'hex'))
               else c.value end), '{}')::text, 'UTF8')), 'hex')
    from jsonb_each(p_row) c where c.value <> 'null' and c.key <> all (p_ignored)
$$;

-- record: one event for each row that a statement wrote. The settings are those in which a row has one form. A table whose
-- entry in audit.covered is gone is not written to.
create function audit.record() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'iso_8601'
set extra_float_digits = 1 set bytea_output = 'hex' as $$
declare
    v_covered audit.covered;
begin
    select * into strict v_covered from audit.covered c where c.object = tg_table_schema || '.' || tg_table_name;
    insert into audit.event (object, operation, key, row_key, digest)
    select v_covered.object, tg_op, audit.pick(w.v_row, v_covered.shown), w.row_key, w.digest
    from (select v.v_row, audit.pick(v.v_row, v_covered.row_key) as row_key,
                 audit.row_digest(v.v_row, v_covered.erasable, v_covered.ignored) as digest
          from (select to_jsonb(c) as v_row from changed c) v) w
    where tg_op <> 'UPDATE' or v_covered.ignored = '{}' or w.digest is distinct from (
        select e.digest from audit.event e where e.object = v_covered.object and e.row_key = w.row_key
        order by e.event_id desc limit 1);
    return null;
end
$$;

-- cover: from now on every write to a table is an event. What it holds already is recorded as it stands. To be called again by a
-- migration that changes a table's columns.
create function audit.cover(p_table regclass, p_shown text[], p_erasable text[] default '{}', p_ignored text[] default '{}') returns void
language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 1 set bytea_output = 'hex' as $$
declare
    v_object text;
    v_key text[];
begin
    select n.nspname || '.' || c.relname into v_object from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = p_table;
    select array_agg(a.attname::text order by k.place) into v_key
    from pg_index i, unnest(i.indkey) with ordinality k (attnum, place)
    join pg_attribute a on a.attrelid = p_table and a.attnum = k.attnum
    where i.indrelid = p_table and i.indisprimary;
    execute format('drop trigger if exists audited_insert on %s', p_table);
    execute format('drop trigger if exists audited_update on %s', p_table);
    execute format('drop trigger if exists audited_delete on %s', p_table);
    execute format('create trigger audited_insert after insert on %s referencing new table as changed'
                   ' for each statement execute function audit.record()', p_table);
    execute format('create trigger audited_update after update on %s referencing new table as changed'
                   ' for each statement execute function audit.record()', p_table);
    execute format('create trigger audited_delete after delete on %s referencing old table as changed'
                   ' for each statement execute function audit.record()', p_table);
    execute format('alter table %s enable always trigger audited_insert, enable always trigger audited_update,'
                   ' enable always trigger audited_delete', p_table);
    insert into audit.covered as c (object, row_key, shown, erasable, ignored) values (v_object, v_key, p_shown, p_erasable, p_ignored)
    on conflict (object) do update set row_key = excluded.row_key, shown = excluded.shown, erasable = excluded.erasable,
                                       ignored = excluded.ignored;
    if v_object <> 'audit.covered' then -- whose own first row its trigger has just recorded
        execute format('insert into audit.event (object, operation, key, row_key, digest)'
                       ' select $1, ''COVER'', audit.pick(to_jsonb(t), $2), audit.pick(to_jsonb(t), $3), audit.row_digest(to_jsonb(t), $4, $5)'
                       ' from %s t', p_table) using v_object, p_shown, v_key, p_erasable, p_ignored;
    end if;
end
$$;

do $$
begin
    perform audit.cover('audit.covered', '{object}');
    perform audit.cover('lineage.permission', '{login, job}');
    perform audit.cover('lineage.job', '{job_id}');
    perform audit.cover('lineage.run', '{run_id, state}');
    perform audit.cover('lineage.attempt', '{run_id, fence, state, login}', p_ignored => '{heartbeat_at}');
    perform audit.cover('lineage.artifact', '{artifact_id}');
    perform audit.cover('lineage.artifact_version', '{version_id, artifact_id, digest, purged_at}');
    perform audit.cover('lineage.run_input', '{run_id, role, version_id}');
    perform audit.cover('lineage.run_output', '{run_id, role, version_id}');
    perform audit.cover('lineage.deployment', '{deployment_id, use_case, alias, model_version_id, index_version_id, decision_id, replaces,'
                        ' promoted_by, valid_to}');
    perform audit.cover('catalog.dataset', '{dataset_id}');
    perform audit.cover('catalog.dataset_version', '{dataset_id, version, digest}');
    perform audit.cover('catalog.version_source', '{dataset_id, version, source, digest, uses}');
    perform audit.cover('catalog.generated_row', '{generated_row_id, use_case, digest, made_by, checked_by}');
    perform audit.cover('catalog.review', '{review_id, dataset_id, version, seed, rows}');
    perform audit.cover('catalog.review_row', '{review_id, place, digest}');
    perform audit.cover('catalog.review_answer', '{review_answer_id, review_id, place, rater, good}', '{reason}');
    perform audit.cover('catalog.example_reading', '{example_reading_id, use_case, digest, reader}');
    perform audit.cover('catalog.locked_reading', '{locked_reading_id, dataset_id, version, login, read_at}');
    perform audit.cover('catalog.signoff', '{signoff_id, dataset_id, version, role, answer, person}');
    perform audit.cover('catalog.document', '{document_id}');
    perform audit.cover('catalog.document_version', '{document_version_id, document_id, digest, classification, groups, status, retain_until, uses}',
                        '{body}');
    perform audit.cover('catalog.document_place', '{document_id}');
    perform audit.cover('catalog.document_member', '{dataset_id, document_version_id, added_in, removed_in}');
    perform audit.cover('catalog.example', '{use_case, digest, split}', '{content}');
    perform audit.cover('catalog.locked_example', '{use_case, digest, split}', '{content}');
    perform audit.cover('catalog.example_member', '{dataset_id, example_digest, split, added_in, removed_in}');
    perform audit.cover('catalog.split_assignment', '{use_case, group_digest, split}');
    perform audit.cover('catalog.finding', '{finding_id, use_case, rule, severity}');
    perform audit.cover('catalog.steward_decision', '{steward_decision_id, finding_id, decision, person}');
    perform audit.cover('catalog.tombstone', '{hmac, use_case, kind}');
    perform audit.cover('catalog.erasure', '{erasure_id, use_case, kind, basis, requested_by, run_id, erased_at}', p_ignored => '{reference}');
    perform audit.cover('catalog.erasure_answer', '{erasure_answer_id, erasure_id, answer, person}');
    perform audit.cover('catalog.erased_row', '{use_case, kind, digest, erasure_id}');
    perform audit.cover('rag.principal', '{use_case, name, tenant, groups, clearance}');
    perform audit.cover('rag.acl_set', '{acl_id, use_case, tenant, classification, groups, uses}');
    perform audit.cover('rag.generation', '{generation_id, use_case, state, digest}');
    perform audit.cover('rag.withdrawal', '{seq, use_case, document_key}');
    perform audit.cover('rag.retrieval_audit', '{audit_id}');
    perform audit.cover('eval.suite', '{suite_id}');
    perform audit.cover('eval.suite_case', '{case_id, suite_id}', '{question, expect}');
    perform audit.cover('eval.evaluation', '{evaluation_id, use_case, subject}');
    perform audit.cover('eval.result', '{evaluation_id, case_id}', '{answer}');
    perform audit.cover('eval.comparison', '{comparison_id, candidate_id, baseline_id}');
    perform audit.cover('release.person', '{name, airflow_id, login, approver, data_owner, privacy_reviewer, ended_at}');
    perform audit.cover('release.person_alias', '{alias, person}');
    perform audit.cover('release.policy', '{policy_id, use_case, digest, sealed_by}');
    perform audit.cover('release.sealing', '{sealing_id, policy_id, use_case, sealed_by}');
    perform audit.cover('release.decision', '{decision_id, use_case, kind, policy_id, model_version_id, index_version_id, replaces,'
                        ' outcome, needs_person, requested_by}');
    perform audit.cover('release.approval', '{approval_id, decision_id, answer, person}');
    perform audit.cover('release.waiver', '{waiver_id, decision_id, check_name, person, expires_at}');
end
$$;

-- event_hash: over every column, in a form that does not depend on a session's settings. An event from before rows had digests
-- has none.
create function audit.event_hash(e audit.event) returns bytea
language sql stable set search_path = pg_catalog, pg_temp as $$
    select sha256(convert_to((jsonb_build_array(
        e.event_id, to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), e.login, e.object, e.operation, e.key)
        || case when e.digest is null then '[]' else jsonb_build_array(e.row_key, e.digest) end)::text, 'UTF8'))
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

-- verify_rows: the rows of the covered tables that are not as their last event says: changed, deleted or written behind the
-- trail's back. And the tables that are not covered as they were.
create function audit.verify_rows() returns table (object text, row_key jsonb, problem text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'iso_8601'
set extra_float_digits = 1 set bytea_output = 'hex' as $$
declare
    v_covered audit.covered;
begin
    return query
    select distinct e.object, null::jsonb, 'the table is not covered any more'
    from audit.event e
    where e.digest is not null
      and (not exists (select from audit.covered c where c.object = e.object) or to_regclass(e.object) is null);
    for v_covered in select * from audit.covered c where to_regclass(c.object) is not null order by c.object loop
        return query
        select v_covered.object, null::jsonb, format('its trigger %s is off', n.name)
        from unnest(array['audited_insert', 'audited_update', 'audited_delete']) n (name)
        where not exists (select from pg_trigger t where t.tgrelid = v_covered.object::regclass and t.tgname = n.name
                          and t.tgenabled = 'A' and t.tgfoid = 'audit.record'::regproc and t.tgqual is null);
        return query execute format(
            'with recorded as (
                 select distinct on (e.row_key) e.row_key, e.operation, e.digest from audit.event e
                 where e.object = $1 and e.digest is not null order by e.row_key, e.event_id desc
             ), standing as (
                 select audit.pick(to_jsonb(t), $2) as row_key, audit.row_digest(to_jsonb(t), $3, $4) as digest from %s t
             )
             select $1, coalesce(r.row_key, s.row_key), case
                 when s.row_key is null then ''it was deleted and no event says so''
                 when r.row_key is null then ''no event says that it was written''
                 when r.operation = ''DELETE'' then ''it is there again and no event says so''
                 else ''it is not as it was written'' end
             from recorded r full join standing s on s.row_key = r.row_key
             where case when s.row_key is null then r.operation <> ''DELETE''
                        else r.operation is null or r.operation = ''DELETE'' or r.digest <> s.digest end',
            v_covered.object::regclass) using v_covered.object, v_covered.row_key, v_covered.erasable, v_covered.ignored;
    end loop;
end
$$;
