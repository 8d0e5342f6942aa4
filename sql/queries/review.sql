-- dataset --
-- The dataset of a use case's examples, and its newest version.
select d.dataset_id, max(v.version) as newest
from catalog.dataset d join catalog.dataset_version v using (dataset_id)
where d.use_case = :'use_case' and d.kind = 'examples'
group by d.dataset_id;

-- strata --
-- The rows of a version that may be read, with what they are drawn by.
select e.digest, e.kind || ', ' || e.source as stratum
from catalog.example_members(:'dataset'::bigint, :'version'::int) m
join catalog.example e on e.use_case = :'use_case' and e.digest = m.example_digest
where m.split <> 'test' and e.content is not null
order by 2, 1;

-- find --
-- A sample that was drawn before.
select review_id from catalog.review
where dataset_id = :'dataset'::bigint and version = :'version'::int and seed = :'seed'::bigint and rows = :'rows'::int;

-- newest --
-- The sample that was drawn last of a use case's examples.
select r.review_id from catalog.review r join catalog.dataset d using (dataset_id)
where d.use_case = :'use_case' order by r.review_id desc limit 1;

-- insert_review --
-- Writes a sample down.
insert into catalog.review (dataset_id, version, seed, rows, requested_by)
values (:'dataset'::bigint, :'version'::int, :'seed'::bigint, :'rows'::int, :'requested_by') returning review_id;

-- insert_rows --
-- Writes the rows of a sample down.
insert into catalog.review_row (review_id, place, digest, stratum, swapped)
select :'review'::bigint, r.place, r.digest, r.stratum, r.swapped
from jsonb_to_recordset(:'sample'::jsonb) as r (place int, digest text, stratum text, swapped boolean);

-- review --
-- A sample of a use case.
select r.review_id, r.version, r.seed, r.rows
from catalog.review r join catalog.dataset d using (dataset_id)
where d.use_case = :'use_case' and r.review_id = :'review'::bigint;

-- row --
-- A row of a sample, with its text; null once it is erased.
select w.place, w.digest, w.stratum, w.swapped, e.kind, e.content, e.split
from catalog.review_row w
join catalog.review r using (review_id)
join catalog.dataset d using (dataset_id)
join catalog.example e on e.use_case = d.use_case and e.digest = w.digest
where w.review_id = :'review'::bigint and w.place = :'place'::int;

-- unread --
-- The first row of a sample that a rater has not read.
select min(w.place) as place
from catalog.review_row w
join catalog.review r using (review_id)
join catalog.dataset d using (dataset_id)
join catalog.example e on e.use_case = d.use_case and e.digest = w.digest and e.content is not null
where w.review_id = :'review'::bigint
  and not exists (select from catalog.review_answer a where a.review_id = w.review_id and a.place = w.place and a.rater = :'rater');

-- insert_answer --
-- Writes down what a rater says of a row.
insert into catalog.review_answer (review_id, place, rater, good, preferred, reason)
values (:'review'::bigint, :'place'::int, :'rater', :'good'::boolean, :'preferred', :'reason');

-- answers --
-- What raters said of a sample.
select a.place, w.stratum, a.rater, a.good, a.preferred, a.reason, a.answered_at
from catalog.review_answer a join catalog.review_row w using (review_id, place)
where a.review_id = :'review'::bigint
order by a.place, a.rater;

-- of_version --
-- The newest sample of a version that somebody has read to its end.
select r.review_id
from catalog.review r join catalog.dataset d using (dataset_id)
where d.use_case = :'use_case' and r.version = :'version'::int
  and exists (select from catalog.reviews v where v.review_id = r.review_id and v.finished)
order by r.review_id desc limit 1;

-- strata_of --
-- What the rows of a sample were drawn by.
select stratum from catalog.review_row where review_id = :'review'::bigint;
