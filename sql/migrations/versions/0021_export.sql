-- Models that are taken out, as runs on record.
set local role nightshift_owner;

insert into lineage.permission (login, job, kinds) values ('trainer', 'training.export', '{merged_model}');

-- check_exported: a model that was trained on rows which were erased since is taken out by nobody.
create function catalog.check_exported() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from lineage.run r join lineage.job j using (job_id) where r.run_id = new.run_id and j.name = 'training.export')
       and catalog.trained_on_erased(new.version_id) > 0 then
        raise exception 'this model was trained on rows that were erased since: it is not exported' using errcode = 'NS016';
    end if;
    return new;
end
$$;
create trigger exported before insert on lineage.run_input for each row execute function catalog.check_exported();

reset role;
