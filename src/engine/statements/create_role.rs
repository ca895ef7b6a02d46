//! `CREATE ROLE`: a user or a group, and what it may do; and the options that ALTER ROLE has too.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::login::verifier;
use crate::engine::rights::Rights;
use crate::engine::statement::{self, Own, at_words, folded, syntax, take_words};
use crate::engine::{Answer, Run, Session, units};
use crate::error::{Error, Kind, Result};
use crate::storage::{Access, Membership, RoleChange, RoleId, check_role_name};

pub struct Grammar;

#[derive(Debug)]
struct CreateRole {
    name: String,
    options: RoleOptions,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "CREATE ROLE"
    }

    fn doc(&self) -> &'static str {
        "Makes a role: a user, who may log in, or a group, whose members have its rights. CREATE USER is the same with LOGIN. \
         A password is kept as a SCRAM-SHA-256 verifier, from which nobody can tell it. Limits hold for all sessions of a \
         role together: CONNECTION LIMIT says how many there are, STATEMENT LIMIT how many of their statements run at \
         once, while others wait for their turns, and MEMORY LIMIT what they may hold; -1 is no limit. Superusers have \
         none. SET query_memory_limit limits the statements of one session. For superusers, and for roles with CREATEROLE, who can make any role but a superuser."
    }

    fn syntax(&self) -> &'static str {
        "CREATE { ROLE | USER | GROUP } name [WITH] [option …]\n\
         option: [NO]LOGIN | [NO]SUPERUSER | [NO]CREATEROLE | [NO]INHERIT | [NO]BYPASSRLS\n\
         \x20      | PASSWORD { 'password' | NULL } | VALID UNTIL 'timestamp' | CONNECTION LIMIT number\n\
         \x20      | STATEMENT LIMIT number | MEMORY LIMIT 'size' | IN ROLE role [, …] | ROLE role [, …] | ADMIN role [, …]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let is_user = at_words(parser, &["CREATE", "USER"]);
        if !["ROLE", "USER", "GROUP"].iter().any(|word| take_words(parser, &["CREATE", word])) {
            return Ok(None);
        }
        let name = folded(&parser.parse_identifier().map_err(syntax)?);
        let mut options = RoleOptions::parse(parser)?;
        options.change.login.get_or_insert(is_user);
        Ok(Some(Arc::new(CreateRole { name, options })))
    }
}

#[async_trait]
impl Own for CreateRole {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let (store, rights) = (&session.store(), session.rights()?);
        must_manage_roles(&rights, "permission denied to create role")?;
        self.options.must_be_allowed(&rights, "create")?;
        check_role_name(&self.name)?;
        let (into, members) = self.options.memberships(rights.access())?;
        for role in &into {
            must_admit_to(&rights, *role)?;
        }
        let change = self.options.change(run)?;
        let id = store.create_role(&self.name, &change)?;
        self.options.warn_of_limits(&self.name, change.login == Some(true), run);
        let above = into.into_iter().map(|role| Membership { role, member: id, admin: false });
        let below = members.into_iter().map(|(member, admin)| Membership { role: id, member, admin });
        let memberships: Vec<Membership> = above.chain(below).collect();
        if !memberships.is_empty() {
            store.add_members(&memberships)?;
        }
        session.audit("CREATE ROLE", &self.name);
        Ok(Answer::Done("CREATE ROLE".to_owned()))
    }
}

/// A role that is to be in another, and whether it may let in others.
type Member = (RoleId, bool);

/// A password as it came. It is never shown.
#[derive(Clone)]
struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What CREATE ROLE and ALTER ROLE say of a role.
#[derive(Debug, Clone, Default)]
pub(super) struct RoleOptions {
    pub change: RoleChange,
    /// `Some(None)`: no password any more.
    password: Option<Option<Password>>,
    into: Vec<String>,
    members: Vec<String>,
    admins: Vec<String>,
}

impl RoleOptions {
    pub fn parse(parser: &mut Parser) -> Result<Self> {
        let _ = take_words(parser, &["WITH"]);
        let mut options = Self::default();
        let mut seen = Vec::new();
        while let Token::Word(word) = &parser.peek_token().token {
            let word = word.value.to_uppercase();
            parser.next_token();
            let about = word.strip_prefix("NO").unwrap_or(&word).to_owned();
            if seen.contains(&about) {
                return Err(Error::new(Kind::Syntax, "conflicting or redundant options"));
            }
            options.option(&word, &about, parser)?;
            seen.push(about);
        }
        // What is left may be a password in the wrong place, which no message should repeat.
        match parser.peek_token().token {
            Token::SemiColon | Token::EOF => Ok(options),
            _ => Err(Error::new(Kind::Syntax, "syntax error among the options of a role")
                .hint("an option is a word, such as LOGIN, or PASSWORD 'password'")),
        }
    }

    fn option(&mut self, word: &str, about: &str, parser: &mut Parser) -> Result<()> {
        let yes = Some(word == about);
        match about {
            "SUPERUSER" => self.change.superuser = yes,
            "LOGIN" => self.change.login = yes,
            "CREATEROLE" => self.change.create_role = yes,
            "INHERIT" => self.change.inherit = yes,
            "BYPASSRLS" => self.change.bypass_rls = yes,
            "CREATEDB" | "REPLICATION" if word != about => {}
            "CREATEDB" | "REPLICATION" => {
                return Err(Error::unsupported(format!("{about} is not supported"))
                    .hint("there is one database, and it is not replicated"));
            }
            "ENCRYPTED" if take_words(parser, &["PASSWORD"]) => self.password = Some(password(parser)?),
            "PASSWORD" => self.password = Some(password(parser)?),
            "CONNECTION" if take_words(parser, &["LIMIT"]) => self.change.connection_limit = Some(limit(parser)?),
            "STATEMENT" if take_words(parser, &["LIMIT"]) => self.change.statement_limit = Some(at_once(parser)?),
            "MEMORY" if take_words(parser, &["LIMIT"]) => self.change.memory_limit = Some(memory(parser)?),
            "VALID" if take_words(parser, &["UNTIL"]) => self.change.valid_until = Some(moment(parser)?),
            "IN" if take_words(parser, &["ROLE"]) || take_words(parser, &["GROUP"]) => self.into = names(parser)?,
            "ROLE" | "USER" => self.members = names(parser)?,
            "ADMIN" => self.admins = names(parser)?,
            _ => {
                return Err(Error::new(Kind::Syntax, format!("unrecognized role option \"{}\"", word.to_lowercase())));
            }
        }
        Ok(())
    }

    /// Whether whoever has these rights may give them to a role.
    pub fn must_be_allowed(&self, rights: &Rights, verb: &str) -> Result<()> {
        if self.change.superuser.is_some_and(|superuser| superuser || verb == "alter") {
            rights.must_be_superuser(match verb {
                "create" => "create superusers",
                _ => "alter superuser roles or change superuser attribute",
            })?;
        }
        if self.change.bypass_rls.is_some_and(|bypass| bypass || verb == "alter") {
            rights.must_be_superuser(&format!("{verb} bypassrls users"))?;
        }
        Ok(())
    }

    /// The change, with the verifier of the password.
    pub fn change(&self, run: &Run) -> Result<RoleChange> {
        let mut change = self.change.clone();
        if let Some(given) = &self.password {
            let verifier = given.as_ref().map(|password| verifier(&password.0)).transpose()?.flatten();
            if given.is_some() && verifier.is_none() {
                run.notice("empty string is not a valid password, clearing password");
            }
            change.verifier = Some(verifier);
        }
        Ok(change)
    }

    /// Limits are those of who logs in.
    pub fn warn_of_limits(&self, role: &str, login: bool, run: &Run) {
        let RoleChange { connection_limit, statement_limit, memory_limit, .. } = &self.change;
        let limits = [connection_limit, statement_limit].iter().any(|limit| matches!(limit, Some(Some(_))));
        if !login && (limits || matches!(memory_limit, Some(Some(_)))) {
            run.warning(
                format!("nobody logs in as role \"{role}\", and its limits hold for nobody"),
                "limits are those of the role that logs in, not of those it is in",
            );
        }
    }

    /// Whether it says nothing but a password.
    pub fn is_password_only(&self) -> bool {
        let RoleChange { superuser, login, create_role, inherit, bypass_rls, valid_until, .. } = &self.change;
        let RoleChange { connection_limit, statement_limit, memory_limit, .. } = &self.change;
        let flags = [superuser, login, create_role, inherit, bypass_rls];
        flags.iter().all(|flag| flag.is_none())
            && [connection_limit, statement_limit].iter().all(|limit| limit.is_none())
            && memory_limit.is_none()
            && valid_until.is_none()
            && self.password.is_some()
    }

    /// Whether it says who is in the role, or what the role is in.
    pub fn has_memberships(&self) -> bool {
        !self.into.is_empty() || !self.members.is_empty() || !self.admins.is_empty()
    }

    /// The roles that it is to be in, and those that are to be in it and may let in others.
    fn memberships(&self, access: &Access) -> Result<(Vec<RoleId>, Vec<Member>)> {
        let id = |name: &String| access.must_find(name).map(|role| role.id);
        let into = self.into.iter().map(id).collect::<Result<_>>()?;
        let members = self.members.iter().map(|name| Ok((id(name)?, false)));
        let admins = self.admins.iter().map(|name| Ok((id(name)?, true)));
        Ok((into, members.chain(admins).collect::<Result<_>>()?))
    }
}

fn password(parser: &mut Parser) -> Result<Option<Password>> {
    match parser.next_token().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(Some(Password(text))),
        Token::Word(word) if word.value.eq_ignore_ascii_case("null") => Ok(None),
        _ => Err(Error::new(Kind::Syntax, "PASSWORD wants a text or NULL").hint("PASSWORD 'password'")),
    }
}

/// `-1`: none.
fn limit(parser: &mut Parser) -> Result<Option<u32>> {
    let negative = parser.consume_token(&Token::Minus);
    let token = parser.next_token();
    match &token.token {
        Token::Number(digits, _) => match digits.parse::<u32>() {
            Ok(limit) if !negative => Ok(Some(limit)),
            Ok(1) => Ok(None),
            _ => Err(Error::invalid(format!("invalid connection limit: {}{digits}", if negative { "-" } else { "" }))),
        },
        _ => parser.expected("a number", token).map_err(syntax),
    }
}

/// Of statements: none at all would let nothing run.
fn at_once(parser: &mut Parser) -> Result<Option<u32>> {
    match limit(parser)? {
        Some(0) => {
            Err(Error::invalid("a statement limit is at least 1").hint("-1 is no limit; NOLOGIN keeps a role out"))
        }
        limit => Ok(limit),
    }
}

/// A size; `-1`: none.
fn memory(parser: &mut Parser) -> Result<Option<u64>> {
    let negative = parser.consume_token(&Token::Minus);
    let token = parser.next_token();
    match &token.token {
        Token::SingleQuotedString(text) | Token::Number(text, _) if !negative => {
            units::memory(text).map(|bytes| Some(bytes as u64))
        }
        Token::Number(digits, _) if digits == "1" => Ok(None),
        _ => parser.expected("a size, or -1", token).map_err(syntax),
    }
}

/// Microseconds since 1970; `infinity` is never.
fn moment(parser: &mut Parser) -> Result<Option<i64>> {
    match parser.next_token().token {
        Token::SingleQuotedString(text) if text.eq_ignore_ascii_case("infinity") => Ok(None),
        Token::SingleQuotedString(text) => match string_to_timestamp_nanos(&text) {
            Ok(nanos) => Ok(Some(nanos.div_euclid(1_000))),
            Err(_) => Err(Error::new(
                Kind::InvalidTime,
                format!("invalid input syntax for type timestamp with time zone: \"{text}\""),
            )),
        },
        _ => Err(Error::new(Kind::Syntax, "VALID UNTIL wants a timestamp").hint("VALID UNTIL '2030-01-01'")),
    }
}

/// Names of roles, as they are written.
pub(super) fn names(parser: &mut Parser) -> Result<Vec<String>> {
    let names = parser.parse_comma_separated(Parser::parse_identifier).map_err(syntax)?;
    Ok(names.iter().map(folded).collect())
}

/// CREATE, ALTER and DROP ROLE are for superusers and roles with CREATEROLE.
pub(super) fn must_manage_roles(rights: &Rights, refusal: &str) -> Result<()> {
    let may = rights.access().role(rights.role()).is_some_and(|role| role.create_role);
    match may || rights.is_superuser() {
        true => Ok(()),
        false => Err(Error::new(Kind::Denied, refusal)),
    }
}

/// Whether these rights let others into a role.
pub(super) fn must_admit_to(rights: &Rights, role: RoleId) -> Result<()> {
    let access = rights.access();
    let of_superuser = access.role(role).is_some_and(|role| role.superuser);
    if of_superuser {
        return rights.must_be_superuser("alter superuser roles or change superuser attribute");
    }
    let is_admin = access
        .memberships()
        .iter()
        .any(|membership| membership.role == role && membership.admin && rights.owns(membership.member));
    match is_admin || must_manage_roles(rights, "").is_ok() {
        true => Ok(()),
        false => Err(Error::new(Kind::Denied, format!("must have admin option on role \"{}\"", access.name(role)))),
    }
}
