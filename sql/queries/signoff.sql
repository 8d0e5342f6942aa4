-- standing --
-- What each role is asked about a version of the examples, or has answered; without a number, about the newest.
select s.version, s.digest, s.state, s.role, s.answer, s.open_items, s.person, s.reason, s.described
from catalog.signoffs s
where s.use_case = :'use_case'
  and s.version = coalesce(:'version'::int, (select max(n.version) from catalog.signoffs n where n.use_case = :'use_case'))
order by s.role;

-- eligible --
-- Who may sign a version in a role, and has an id at Airflow.
select e.name, e.airflow_id
from catalog.signoffs s
cross join lateral catalog.signoff_eligible(s.dataset_id, s.version, s.role) e
where s.use_case = :'use_case' and s.version = :'version'::int and s.role = :'role' and e.airflow_id is not null;

-- newest_answer --
-- The newest answer in a role to a version, also one that does not count.
select answer, person, reason from catalog.signoff_answers
where use_case = :'use_case' and version = :'version'::int and role = :'role'
order by signoff_id desc limit 1;
