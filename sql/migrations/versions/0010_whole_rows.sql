-- An event carries the digest of the whole row, so that a change behind the trail's back is found.
set local role nightshift_owner;

alter table audit.event drop constraint event_operation_check;
alter table audit.event add constraint event_operation_check check (operation in ('INSERT', 'UPDATE', 'DELETE', 'COVER')),
    add row_key jsonb, add digest text;
create index event_by_row on audit.event (object, row_key, event_id);
drop trigger audited on lineage.deployment;
drop trigger audited on lineage.artifact_version;
drop trigger audited on catalog.dataset_version;
drop trigger audited on catalog.document_version;
drop trigger audited on catalog.steward_decision;
drop trigger audited on catalog.tombstone;
drop trigger audited on rag.generation;
drop trigger audited on rag.withdrawal;
drop trigger audited on rag.principal;
drop trigger audited on release.person;
drop trigger audited on release.person_alias;
drop trigger audited on release.policy;
drop trigger audited on release.sealing;
drop trigger audited on release.decision;
drop trigger audited on release.approval;
drop trigger audited on release.waiver;

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
create or replace function audit.record() returns trigger
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
    perform audit.cover('catalog.document', '{document_id}');
    perform audit.cover('catalog.document_version', '{document_version_id, document_id, digest, classification, groups, status, retain_until}',
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
    perform audit.cover('rag.principal', '{use_case, name, tenant, groups, clearance}');
    perform audit.cover('rag.acl_set', '{acl_id, use_case, tenant, classification, groups}');
    perform audit.cover('rag.generation', '{generation_id, use_case, state, digest}');
    perform audit.cover('rag.withdrawal', '{seq, use_case, document_key}');
    perform audit.cover('rag.retrieval_audit', '{audit_id}');
    perform audit.cover('eval.suite', '{suite_id}');
    perform audit.cover('eval.suite_case', '{case_id, suite_id}', '{question, expect}');
    perform audit.cover('eval.evaluation', '{evaluation_id, use_case, subject}');
    perform audit.cover('eval.result', '{evaluation_id, case_id}', '{answer}');
    perform audit.cover('eval.comparison', '{comparison_id, candidate_id, baseline_id}');
    perform audit.cover('release.person', '{name, airflow_id, login, approver, ended_at}');
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
create or replace function audit.event_hash(e audit.event) returns bytea
language sql stable set search_path = pg_catalog, pg_temp as $$
    select sha256(convert_to((jsonb_build_array(
        e.event_id, to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), e.login, e.object, e.operation, e.key)
        || case when e.digest is null then '[]' else jsonb_build_array(e.row_key, e.digest) end)::text, 'UTF8'))
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

create or replace view audit.events as
select e.event_id, e.at, e.login, e.object, e.operation, e.key, m.block_no, e.row_key, e.digest
from audit.event e left join audit.block_member m using (event_id);

grant select on audit.covered to auditor;
grant execute on function audit.verify_rows to auditor, pipeline;

reset role;
