//! The operator's own condition on rows (`where`).
//!
//! It comes from the configuration, which is trusted as a password is: the session that runs it can only read, and may read what the role
//! may. What is checked here are accidents: a condition that ends the statement, or that means other rows at the other end.

use std::iter::Peekable;
use std::str::Chars;

/// Names that stand for another value at another instant or place, wherever they stand.
const UNSTEADY: [&str; 17] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "current_role",
    "current_catalog",
    "current_schema",
    "session_user",
    "system_user",
    "user",
    "ctid",
    "xmin",
    "xmax",
    "tableoid",
    "now",
];
/// Names of functions that give another value at another instant or place. A column may have such a name.
const UNSTEADY_FUNCTIONS: [&str; 37] = [
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "random_normal",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "nextval",
    "setval",
    "currval",
    "lastval",
    "mxid_age",
    "version",
    "current_database",
    "current_query",
    "current_schemas",
    "current_setting",
    "set_config",
    "pg_sleep",
    "pg_backend_pid",
    "pg_is_in_recovery",
    "pg_postmaster_start_time",
    "pg_conf_load_time",
    "pg_current_snapshot",
    "pg_current_xact_id",
    "txid_current",
    "txid_current_snapshot",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_column_size",
];
/// Of one argument, it counts from midnight today.
const AGE: &str = "age";
/// Words of statements.
const STATEMENTS: [&str; 4] = ["select", "values", "table", "union"];
/// What the input of dates and times reads as a moment near the one at which it is read, in any letters, with a time or a zone beside it, and
/// within arrays, ranges and rows. Of its other words (`epoch`, `infinity`, `allballs`), each is always the same.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
/// Operators whose right side is a text for sure.
const OF_TEXTS: [&str; 2] = ["like", "ilike"];

/// A piece of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// In single quotes.
    Text(String),
    /// A name in double quotes.
    Name(String),
    /// In small letters.
    Word(String),
    /// Anything else but blanks.
    Mark(char),
}

/// Whether `condition` can be put behind `where` in parentheses, and means the same rows at both ends whenever it is asked.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_filter(condition: &str) -> Result<(), String> {
    if condition.trim().is_empty() {
        return Err("the condition is empty".to_owned());
    }
    let tokens = tokens(condition)?;
    are_closed(&tokens)?;
    for (at, token) in tokens.iter().enumerate() {
        let (before, behind) = (&tokens[..at], &tokens[at + 1..]);
        match token {
            Token::Word(word) if STATEMENTS.contains(&word.as_str()) => {
                return Err(format!("`{word}` reads more than the row at hand"));
            }
            Token::Word(word) if UNSTEADY.contains(&word.as_str()) || is_unsteady_call(word, behind) => {
                return Err(unsteady(word));
            }
            Token::Name(name) if is_unsteady_call(name, behind) => return Err(unsteady(name)),
            Token::Text(text) => check_text(text, before, behind)?,
            _ => {}
        }
    }
    Ok(())
}

fn unsteady(word: &str) -> String {
    format!("`{word}` means other rows at another instant or place; write the value itself")
}

/// Whether `name`, with `behind` it, is the call of a function that does not always give the same.
fn is_unsteady_call(name: &str, behind: &[Token]) -> bool {
    if behind.first() != Some(&Token::Mark('(')) {
        return false;
    }
    if name != AGE {
        return UNSTEADY.contains(&name) || UNSTEADY_FUNCTIONS.contains(&name);
    }
    let mut open = 0;
    for token in behind {
        match token {
            Token::Mark('(' | '[') => open += 1,
            Token::Mark(')' | ']') => open -= 1,
            Token::Mark(',') if open == 1 => return false,
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    true
}

/// A text may become a date by the column that it is compared with, so one that names a moment is taken for that, except where it can only be
/// a text.
fn check_text(text: &str, before: &[Token], behind: &[Token]) -> Result<(), String> {
    if let Some(Token::Text(_)) = behind.first() {
        return Err("a text goes on in another line; write it in one piece".to_owned());
    }
    let is_moment = |word: &&str| MOMENTS.iter().any(|moment| word.eq_ignore_ascii_case(moment));
    let mut words = text.split(|one: char| !one.is_ascii_alphabetic());
    let Some(moment) = words.find(is_moment) else {
        return Ok(());
    };
    let is_pattern = matches!(before.last(), Some(Token::Word(word)) if OF_TEXTS.contains(&word.as_str()));
    if is_pattern && behind.first() != Some(&Token::Mark(':')) {
        return Ok(());
    }
    Err(format!(
        "'{moment}' may be read as a date or time, and means other rows at another instant; write the date itself, or, for a text, \
         `column like '...'`"
    ))
}

fn are_closed(tokens: &[Token]) -> Result<(), String> {
    let mut open = 0u32;
    for token in tokens {
        match token {
            Token::Mark('(') => open += 1,
            Token::Mark(')') => {
                open = open
                    .checked_sub(1)
                    .ok_or("a parenthesis is closed that was not opened")?;
            }
            _ => {}
        }
    }
    if open > 0 {
        return Err("a parenthesis is not closed".to_owned());
    }
    Ok(())
}

/// The pieces of a condition.
///
/// # Errors
/// In words: something that ends the statement, hides a part of it, or is read in several ways.
fn tokens(condition: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = condition.chars().peekable();
    while let Some(next) = rest.next() {
        tokens.push(match next {
            '\'' => Token::Text(quoted(&mut rest, next)?),
            '"' => Token::Name(quoted(&mut rest, next)?),
            ';' => return Err("it holds a semicolon".to_owned()),
            '\\' => return Err("it holds a backslash outside of quotes".to_owned()),
            '$' => return Err("it holds a $; write texts in single quotes".to_owned()),
            '-' if rest.peek() == Some(&'-') => return Err("it holds a comment".to_owned()),
            '/' if rest.peek() == Some(&'*') => return Err("it holds a comment".to_owned()),
            first if first.is_alphabetic() || first == '_' => {
                let mut word = first.to_lowercase().to_string();
                while let Some(more) = rest.next_if(|one| one.is_alphanumeric() || *one == '_') {
                    word.extend(more.to_lowercase());
                }
                if matches!(word.as_str(), "e" | "u" | "b" | "x" | "n") && matches!(rest.peek(), Some('\'' | '&')) {
                    return Err("write texts in plain single quotes, without a prefix".to_owned());
                }
                Token::Word(word)
            }
            blank if blank.is_whitespace() => continue,
            other => Token::Mark(other),
        });
    }
    Ok(tokens)
}

/// What stands before the closing `quote`. A doubled one is one of the contents.
fn quoted(rest: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, String> {
    let mut contents = String::new();
    while let Some(next) = rest.next() {
        if next != quote {
            contents.push(next);
        } else if rest.next_if_eq(&quote).is_some() {
            contents.push(quote);
        } else {
            return Ok(contents);
        }
    }
    Err(format!("a {quote} is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_the_row_at_hand_are_let_through() {
        for fine in [
            "created_at < '2026-01-01'",
            "at is distinct from timestamp with time zone '2026-01-01 00:00:00Z'",
            "kind in ('a', 'it''s') and (amount > 10 or \"Odd Name\" is null)",
            "note like 'now; -- select%'",
            "(at at time zone 'UTC')::date >= date '2026-01-01'",
            "note not ilike '%today%' and tag = 'snowy' and day = 'todays'",
            "at < 'epoch' or at = '-infinity' or t = 'allballs'",
            "age > 5 and version = 2 and random is null",
            "age(at, timestamp '2026-01-01') > interval '1 year'",
            "age(coalesce(at, to_date('1', 'J')), '2026-01-01') > '1 year'",
        ] {
            assert_eq!(check_filter(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn what_ends_the_statement_or_changes_with_time_is_refused() {
        for bad in [
            "",
            "  ",
            "created_at > now() - interval '1 day'",
            "created_at > pg_catalog.\"now\"()",
            "at < CURRENT_DATE",
            "random() < 0.5",
            "id in (select id from other)",
            "true) or (true",
            "(true",
            "true; drop table t",
            "true -- and more",
            "true /* and */",
            "a = 'open",
            "a = E'\\\\'",
            "a = $1",
            "xmin::text = '5'",
            "owner = user",
            "age(at) > interval '1 year'",
            "age (coalesce(at, '2026-01-01')) > '1 year'",
            "pg_is_in_recovery ( )",
        ] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }

    /// Each is one that the server reads as a moment, whatever type stands beside it.
    #[test]
    fn a_text_that_the_server_reads_as_a_moment_is_refused() {
        for bad in [
            "at < 'now'",
            "at >= 'today'::date",
            "at >= date 'Tomorrow'",
            "at = timestamp with time zone ' YESTERDAY '",
            "at < cast('today' as date)",
            "at < 'today 10:00'",
            "at < '10:00today'",
            "at < '(Today), 10:00 Europe/Berlin'",
            "at = any ('{2026-01-01,today}')",
            "daterange('today', null) @> at",
            "span @> '[yesterday,tomorrow)'",
            "note like 'today'::date::text",
            "note like ('today'::date)::text",
            "at < 'to'\n'day'",
        ] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
        let told = check_filter("at < 'today'").unwrap_err();
        assert!(
            told.contains("'today'") && told.contains("write the date itself"),
            "{told}"
        );
    }
}
