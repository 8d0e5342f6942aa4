-- Plain texts are rows of their own kind, which an adapter may be trained on first.
set local role nightshift_owner;

alter table catalog.example drop constraint example_kind_check, add check (kind in ('sft', 'preference', 'text'));
alter table catalog.locked_example drop constraint locked_example_kind_check, add check (kind in ('sft', 'preference', 'text'));
insert into lineage.permission (login, job, kinds) values ('trainer', 'training.pretrain', '{adapter}');

-- trains: whether a job trains on rows of a dataset version: what is asked of a model asks it of each such run.
create function lineage.trains(p_job text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
    select p_job in ('training.pretrain', 'training.sft', 'training.dpo')
$$;

create or replace function catalog.trained_on_erased(p_version bigint) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select count(distinct (r.use_case, r.digest))
    from lineage.ancestry(p_version) a
    join lineage.run_output o on o.version_id = a.version_id
    join lineage.run t on t.run_id = o.run_id and t.state = 'succeeded'
    join lineage.job j on j.job_id = t.job_id and lineage.trains(j.name)
    join lineage.run_input i on i.run_id = t.run_id and i.role = 'dataset'
    join catalog.dataset_version v on v.artifact_version_id = i.version_id
    join catalog.dataset d on d.dataset_id = v.dataset_id and d.kind = 'examples'
    join catalog.erased_row r on r.use_case = d.use_case and r.kind = 'example' and r.split in ('train', 'validation')
    join catalog.example_member m on m.dataset_id = v.dataset_id and m.example_digest = r.digest
                                 and m.added_in <= v.version and (m.removed_in is null or m.removed_in > v.version)
$$;

create or replace function catalog.trained_unsigned(p_model bigint) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select count(*) from (
        select i.version_id
        from lineage.ancestry(p_model) a
        join lineage.run_output o on o.version_id = a.version_id
        join lineage.run t on t.run_id = o.run_id and t.state = 'succeeded'
        join lineage.job j on j.job_id = t.job_id and lineage.trains(j.name)
        join lineage.run_input i on i.run_id = t.run_id and i.role = 'dataset'
        join catalog.dataset_version v on v.artifact_version_id = i.version_id
        join catalog.dataset d on d.dataset_id = v.dataset_id and d.kind = 'examples'
        group by i.version_id
        having not bool_or(catalog.signoff_state(v.dataset_id, v.version) = 'signed')) unsigned
$$;

grant execute on function lineage.trains to pipeline, trainer, evaluator, reader, auditor, approver, gatekeeper;

reset role;
