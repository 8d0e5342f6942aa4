-- The members of a version, as a part of the query that asks for them.
set local role nightshift_owner;

-- members: the members of a dataset at a version. They have the caller's rights and no search path of their own, so that Postgres takes
-- them into the query that names them: called as functions they would be gone through once for each row that they are joined with.
create or replace function catalog.example_members(p_dataset bigint, p_version int)
returns table (example_digest text, split text)
language sql stable security invoker as $$
    select m.example_digest, m.split from catalog.example_member m
    where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version)
$$;

create or replace function catalog.document_members(p_dataset bigint, p_version int)
returns table (document_version_id bigint)
language sql stable security invoker as $$
    select m.document_version_id from catalog.document_member m
    where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version)
$$;

drop trigger kept_to_uses on catalog.version_source;
create constraint trigger kept_to_uses after insert on catalog.version_source
deferrable initially deferred for each row when (not new.uses @> array['train', 'evaluate']) execute function catalog.keep_to_uses();

reset role;
