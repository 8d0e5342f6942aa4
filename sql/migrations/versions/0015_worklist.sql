-- The data steward's decisions: on rows that were left out, too, and for a time.
set local role nightshift_owner;

alter table catalog.steward_decision add column until date; -- the last day that an acceptance counts; null: it has no end
alter table catalog.steward_decision add check (until is null or decision = 'accept');
create index steward_decision_by_finding on catalog.steward_decision (finding_id);
create index finding_by_digest on catalog.finding (use_case, digest) where digest is not null;

create or replace view catalog.findings as
select f.finding_id, f.use_case, f.run_id, f.file, f.line, f.rule, f.severity, f.detail, f.digest,
       s.decision, s.person, s.decided_at
from catalog.finding f
left join lateral (
    select d.decision, d.person, d.decided_at from catalog.steward_decision d
    where d.finding_id = f.finding_id order by d.steward_decision_id desc limit 1
) s on true;

-- worklist: what the newest check and commit of a use case left out, and the steward has not decided. A decision to leave a row out
-- holds for every later check; one to take it in holds until its day, and a finding that comes in spite of it waits again.
create view catalog.worklist as
with newest as (
    select distinct on (j.use_case, j.name) j.use_case, coalesce(r.reused_from, r.run_id) as run_id
    from lineage.run r
    join lineage.job j using (job_id)
    where j.name in ('data.check', 'data.commit')
      and (r.state in ('succeeded', 'reused') or exists (select from catalog.finding f where f.run_id = r.run_id))
    order by j.use_case, j.name, r.started_at desc
)
select f.finding_id, f.use_case, f.run_id, f.file, f.line, f.rule, f.severity, f.detail, f.digest
from newest n
join catalog.finding f on f.run_id = n.run_id and f.use_case = n.use_case and f.severity in ('rejected', 'waiting')
left join lateral (
    select d.decision, d.until from catalog.steward_decision d
    where d.finding_id = f.finding_id order by d.steward_decision_id desc limit 1
) own on true
where (own.decision is null or own.until < (clock_timestamp() at time zone 'UTC')::date)
  and 'reject' is distinct from (
      select d.decision from catalog.finding o join catalog.steward_decision d using (finding_id)
      where o.use_case = f.use_case and o.digest = f.digest and o.rule = f.rule
      order by d.steward_decision_id desc limit 1);

-- waivers: rows that a rule leaves out, and that a person has accepted.
create view catalog.waivers as
select w.use_case, w.rule, w.digest, w.file, w.line, w.finding_id, w.person, w.reason, w.decided_at, w.until,
       w.until is null or w.until >= (clock_timestamp() at time zone 'UTC')::date as in_force
from (
    select distinct on (f.use_case, f.rule, f.digest) f.use_case, f.rule, f.digest, f.file, f.line, f.finding_id,
           d.decision, d.person, d.reason, d.decided_at, d.until
    from catalog.finding f join catalog.steward_decision d using (finding_id)
    where f.digest is not null
    order by f.use_case, f.rule, f.digest, d.steward_decision_id desc
) w
where w.decision = 'accept';

grant insert (until) on catalog.steward_decision to pipeline;
grant select on catalog.worklist, catalog.waivers to reader, auditor, pipeline;

reset role;
