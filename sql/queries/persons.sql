-- everybody --
-- Every person, with the names that he is recorded under besides his own.
select p.name, p.airflow_id, p.login, p.approver, p.data_owner, p.privacy_reviewer, p.ended_at,
       array(select a.alias from release.person_alias a where a.person = p.name and a.alias <> p.name order by a.alias) as aliases
from release.person p
order by p.name;

-- person_of --
-- The one name of whoever is recorded under this one; null where that is no person who is known.
select release.person_of(:'name') as name;

-- whoami --
-- The person whose own login this session is, and whether this login may answer at all.
select release.whoami() as name, session_user as login;

-- waiting --
-- The newest decisions of a use case that wait for a person's answer.
select decision_id, kind, outcome, requested_by from release.waiting where use_case = :'use_case' order by decision_id desc;

-- newest_answer --
-- The newest answer to a decision.
select answer, person, reason from release.approval where decision_id = :'decision_id'::bigint order by approval_id desc limit 1;
