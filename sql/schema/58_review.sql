-- Reading a sample: persons read rows of a version of the examples, drawn by a seed, and say of each whether it is good. No row of the
-- locked test split is drawn.

create table catalog.review (
    review_id bigint generated always as identity primary key,
    dataset_id bigint not null,
    version int not null,
    seed bigint not null,
    rows int not null check (rows >= 10),
    requested_by text not null,
    drawn_at timestamptz not null default clock_timestamp(),
    unique (dataset_id, version, seed, rows),
    foreign key (dataset_id, version) references catalog.dataset_version
);

create table catalog.review_row (
    review_id bigint not null references catalog.review,
    place int not null check (place > 0),
    digest text not null, -- of the example
    stratum text not null, -- its kind and its source
    swapped boolean not null, -- of a pair: whether the rejected answer is shown first
    primary key (review_id, place)
);

create table catalog.review_answer (
    review_answer_id bigint generated always as identity primary key,
    review_id bigint not null,
    place int not null,
    rater text not null,
    good boolean not null, -- of a pair: whether the rater, who does not know which was chosen, prefers the chosen answer
    preferred text check (preferred in ('a', 'b', 'neither')), -- of a pair: as it was shown
    reason text check (btrim(reason) <> ''), -- null once the row is erased
    login text not null default session_user,
    answered_at timestamptz not null default clock_timestamp(),
    unique (review_id, place, rater),
    foreign key (review_id, place) references catalog.review_row
);
alter table catalog.review_answer alter column reason set statistics 0;

-- draw_no_test: what is drawn is a member of the version, and never of its test split.
create function catalog.draw_no_test() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from catalog.review r
                   join catalog.example_member m on m.dataset_id = r.dataset_id and m.example_digest = new.digest and m.split <> 'test'
                                                and m.added_in <= r.version and (m.removed_in is null or m.removed_in > r.version)
                   where r.review_id = new.review_id) then
        raise exception 'row % is not to be read in a review: it is no member of the version, or of its test split', left(new.digest, 12)
            using errcode = 'NS044';
    end if;
    return new;
end
$$;
create trigger no_test_row before insert on catalog.review_row
for each row execute function catalog.draw_no_test();

-- reviews: how far each rater is with each sample, and how many of the rows that he read he calls good. A row that was erased since
-- is not waited for.
create view catalog.reviews as
select r.review_id, d.use_case, r.version, r.seed, r.rows, r.drawn_at, a.rater, count(*) as read, count(*) filter (where a.good) as good,
       not exists (
           select from catalog.review_row w
           join catalog.example e on e.use_case = d.use_case and e.digest = w.digest and e.content is not null
           where w.review_id = r.review_id and not exists (
               select from catalog.review_answer o where o.review_id = w.review_id and o.place = w.place and o.rater = a.rater)) as finished,
       max(a.answered_at) as last_read_at
from catalog.review r
join catalog.dataset d using (dataset_id)
join catalog.review_answer a using (review_id)
group by r.review_id, d.use_case, r.version, r.seed, r.rows, r.drawn_at, a.rater;

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
