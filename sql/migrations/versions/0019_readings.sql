-- Who had the text of a row shown.
set local role nightshift_owner;

-- example_reading: a person had the text of one row shown.
create table catalog.example_reading (
    example_reading_id bigint generated always as identity primary key,
    use_case text not null,
    digest text not null, -- of the example
    reader text not null,
    login text not null default session_user,
    read_at timestamptz not null default clock_timestamp()
);

-- rows_read: which rows' texts persons read, and how.
create view catalog.rows_read as
select use_case, digest, reader, 'shown' as how, read_at from catalog.example_reading
union all
select d.use_case, w.digest, a.rater, 'review ' || a.review_id, a.answered_at
from catalog.review_answer a
join catalog.review_row w using (review_id, place)
join catalog.review r using (review_id)
join catalog.dataset d using (dataset_id);

do $$
begin
    perform audit.cover('catalog.example_reading', '{example_reading_id, use_case, digest, reader}');
end
$$;

grant select on catalog.example_reading to pipeline;
grant insert (use_case, digest, reader) on catalog.example_reading to pipeline;
grant select on catalog.rows_read to reader, auditor, pipeline;

reset role;
