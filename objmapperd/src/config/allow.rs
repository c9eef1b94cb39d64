//! The rules of a mount as they are written: to whom, and what.
//!
//! ```text
//!  rule = who [ operations ]
//!  who  = "any" | "uid:" number | "user:" name | "gid:" number | "group:" name
//!  operations = "read" | "list", several with commas or blanks; both if none is named
//! ```
//!
//! `read` is to open, to copy and to ask for metadata; `list` is to list names. Names become
//! numbers here, so that nothing is looked up while requests are served.

use objmapper::{Rule, Subject, Verbs};
use objmapper_os::user;

use super::given::Given;
use super::sheet::Sheet;
use super::value::{Kind, quoted};

/// What the kernel shows for users and groups that a namespace does not map.
const OVERFLOW_ID: u32 = 65534;

const ALLOWED: &str = "must be \"any\", \"uid:N\", \"user:NAME\", \"gid:N\" or \"group:NAME\"; \
                       behind it \"read\", \"list\" or nothing, which means both";

/// One rule.
pub(super) struct AllowRule;

impl Kind for AllowRule {
    type Value = Rule;

    fn read(&self, given: &Given) -> Result<Rule, String> {
        let text = given.as_str().ok_or(ALLOWED)?;
        let mut words = text.split_whitespace();
        let subject = subject(words.next().ok_or(ALLOWED)?)?;
        let verbs = words
            .flat_map(|word| word.split(','))
            .filter(|word| !word.is_empty())
            .try_fold(Verbs::NONE, |sum, word| verb(word).map(|verb| sum.with(verb)))?;
        let verbs = if verbs == Verbs::NONE { Verbs::ALL } else { verbs };
        Ok(Rule { subject, verbs })
    }

    fn show(&self, rule: &Rule) -> String {
        let subject = match rule.subject {
            Subject::Anyone => "any".to_owned(),
            Subject::User(uid) => format!("uid:{uid}"),
            Subject::Group(gid) => format!("gid:{gid}"),
        };
        quoted(&match (rule.verbs.contains(Verbs::READ), rule.verbs.contains(Verbs::LIST)) {
            (true, false) => subject + " read",
            (false, true) => subject + " list",
            _ => subject,
        })
    }
}

/// To whom, where there is one operation only.
pub(super) struct Whom;

impl Kind for Whom {
    type Value = Rule;

    fn read(&self, given: &Given) -> Result<Rule, String> {
        let only = "must be \"any\", \"uid:N\", \"user:NAME\", \"gid:N\" or \"group:NAME\"";
        let text = given.as_str().map(str::trim).filter(|text| !text.contains(char::is_whitespace));
        let subject = subject(text.ok_or(only)?);
        let subject = subject.map_err(|why| if why == ALLOWED { only.to_owned() } else { why })?;
        Ok(Rule { subject, verbs: Verbs::ALL })
    }

    fn show(&self, rule: &Rule) -> String {
        AllowRule.show(rule)
    }
}

/// A list of rules, named `allow`.
pub(super) fn rules(
    sheet: &mut Sheet<'_>,
    given: &[Given],
    kind: &impl Kind<Value = Rule>,
) -> Vec<Rule> {
    let rules = given.iter().filter_map(|rule| sheet.read("allow", rule, kind)).collect();
    let texts: Vec<_> = given.iter().filter_map(Given::as_str).map(quoted).collect();
    let origin = given.first().map(|rule| &rule.origin);
    sheet.show("allow", &format!("[{}]", texts.join(", ")), origin);
    rules
}

fn subject(word: &str) -> Result<Subject, String> {
    match word.split_once(':') {
        None if word == "any" => Ok(Subject::Anyone),
        Some(("uid", number)) => id(number).and_then(unmapped).map(Subject::User),
        Some(("gid", number)) => id(number).and_then(unmapped).map(Subject::Group),
        Some(("user", name)) => uid(name).and_then(unmapped).map(Subject::User),
        Some(("group", name)) => gid(name).and_then(unmapped).map(Subject::Group),
        _ => Err(ALLOWED.to_owned()),
    }
}

fn verb(word: &str) -> Result<Verbs, String> {
    match word {
        "read" => Ok(Verbs::READ),
        "list" => Ok(Verbs::LIST),
        _ => Err(format!("{ALLOWED}; {word:?} is not an operation")),
    }
}

fn id(number: &str) -> Result<u32, String> {
    // The last one means "no change" to chown(2) and can be nobody's.
    number.parse().ok().filter(|id| *id != u32::MAX).ok_or_else(|| ALLOWED.to_owned())
}

/// Refuses the number that stands for many users or groups at the same time.
fn unmapped(id: u32) -> Result<u32, String> {
    if id == OVERFLOW_ID {
        return Err(format!(
            "must be one user or group: {OVERFLOW_ID} stands for all that a namespace does not \
             know, so no rule can be about it"
        ));
    }
    Ok(id)
}

/// A user by name or number.
pub(super) struct User;

/// A group by name or number.
pub(super) struct Group;

fn uid(name: &str) -> Result<u32, String> {
    found(name, "user", user::uid_by_name(name))
}

fn gid(name: &str) -> Result<u32, String> {
    found(name, "group", user::gid_by_name(name))
}

fn found(name: &str, what: &str, id: objmapper_os::Result<Option<u32>>) -> Result<u32, String> {
    match id {
        Ok(Some(u32::MAX) | None) => {
            Err(format!("must be a {what} that exists: there is no {what} {name:?}"))
        }
        Ok(Some(id)) => Ok(id),
        Err(error) => Err(format!("the {what} could not be looked up: {error}")),
    }
}

impl Kind for User {
    type Value = u32;

    fn read(&self, given: &Given) -> Result<u32, String> {
        uid(given.as_str().ok_or("must be the name or number of a user, in quotes")?)
    }

    fn show(&self, uid: &u32) -> String {
        quoted(&uid.to_string())
    }
}

impl Kind for Group {
    type Value = u32;

    fn read(&self, given: &Given) -> Result<u32, String> {
        gid(given.as_str().ok_or("must be the name or number of a group, in quotes")?)
    }

    fn show(&self, gid: &u32) -> String {
        quoted(&gid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::given::Origin;

    fn rule(text: &str) -> Result<Rule, String> {
        AllowRule.read(&Given::text(text, &Origin::File(0)))
    }

    #[test]
    fn whom_and_what() {
        let is = |subject, verbs| Ok(Rule { subject, verbs });
        assert_eq!(rule("any"), is(Subject::Anyone, Verbs::ALL));
        assert_eq!(rule("any list"), is(Subject::Anyone, Verbs::LIST));
        assert_eq!(rule("uid:1000 read"), is(Subject::User(1000), Verbs::READ));
        assert_eq!(rule("user:root read,list"), is(Subject::User(0), Verbs::ALL));
        assert_eq!(rule(" gid:100  list, read "), is(Subject::Group(100), Verbs::ALL));
        assert_eq!(rule("group:root"), is(Subject::Group(0), Verbs::ALL));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in ["", "all", "root", "uid:root", "uid:-1", "uid:4294967295", "any:1", "gid:"] {
            assert_eq!(rule(wrong), Err(ALLOWED.to_owned()), "{wrong}");
        }
        assert!(rule("any write").unwrap_err().ends_with("\"write\" is not an operation"));
        let missing = rule("user:no-such-user").unwrap_err();
        assert_eq!(missing, "must be a user that exists: there is no user \"no-such-user\"");
        assert!(rule("uid:65534").unwrap_err().contains("no rule can be about it"));
    }

    #[test]
    fn where_there_is_one_operation_none_is_named() {
        let whom = |text| Whom.read(&Given::text(text, &Origin::File(0)));
        assert_eq!(whom("uid:5"), Ok(Rule { subject: Subject::User(5), verbs: Verbs::ALL }));
        for wrong in ["uid:5 read", "", "root"] {
            assert!(whom(wrong).unwrap_err().ends_with("or \"group:NAME\""), "{wrong}");
        }
        assert!(whom("uid:65534").unwrap_err().contains("no rule can be about it"));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["any", "any list", "uid:5 read", "gid:7"] {
            assert_eq!(AllowRule.show(&rule(text).unwrap()), quoted(text));
        }
    }
}
