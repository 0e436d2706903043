//! The operator's own condition on rows (`where`).
//!
//! It comes from the configuration, which is trusted as a password is: the session that runs it can only read, and may read what the role
//! may. What is checked here are accidents: a condition that ends the statement, or that means other rows at the other end.

/// Words that make two ends, or two instants, see other rows.
const UNSTEADY: [&str; 18] = [
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "gen_random_uuid",
    "nextval",
    "current_user",
    "session_user",
    "ctid",
    "xmin",
    "xmax",
];
/// Words of statements.
const STATEMENTS: [&str; 4] = ["select", "values", "table", "union"];

/// Whether `condition` can be put behind `where` in parentheses, and means the same rows at both ends whenever it is asked.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_filter(condition: &str) -> Result<(), String> {
    if condition.trim().is_empty() {
        return Err("the condition is empty".to_owned());
    }
    let mut open = 0i32;
    let mut rest = condition.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            // A doubled quote ends one text and begins the next.
            '\'' | '"' if !rest.by_ref().any(|other| other == next) => {
                return Err(format!("a {next} is not closed"));
            }
            '(' => open += 1,
            ')' => {
                open -= 1;
                if open < 0 {
                    return Err("a parenthesis is closed that was not opened".to_owned());
                }
            }
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
                if UNSTEADY.contains(&word.as_str()) {
                    return Err(format!(
                        "`{word}` means other rows at another instant or place; write the value itself"
                    ));
                }
                if STATEMENTS.contains(&word.as_str()) {
                    return Err(format!("`{word}` reads more than the row at hand"));
                }
            }
            _ => {}
        }
    }
    if open != 0 {
        return Err("a parenthesis is not closed".to_owned());
    }
    Ok(())
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
        ] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
