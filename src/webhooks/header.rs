//! The rules for the custom headers of a subscription.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::sign;
use crate::error::{Result, Violations};

const MOST: usize = 50;
const LONGEST_VALUE: usize = 4096;

/// Headers that belong to the connection or to the message's form: a caller's value would break the request.
const REFUSED: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "http2-settings",
];

/// Checks custom headers. `own` is the name of the environment's own signature header.
pub fn check(headers: &BTreeMap<String, String>, own: &str) -> Result<()> {
    let mut violations = Violations::new();
    if headers.len() > MOST {
        violations.add("/headers", format!("at most {MOST} headers are allowed"));
    }
    for (name, value) in headers {
        let pointer = format!("/headers/{}", escape(name));
        match HeaderName::try_from(name.as_str()) {
            Err(_) => violations.add(&pointer, "is not the name of a header"),
            Ok(name) if reserved(name.as_str(), own) => violations.add(&pointer, format!("{name} must not be set")),
            Ok(_) => {}
        }
        if value.len() > LONGEST_VALUE || HeaderValue::try_from(value.as_str()).is_err() {
            violations.add(&pointer, format!("is not a header value of at most {LONGEST_VALUE} bytes"));
        }
    }
    violations.finish()
}

fn reserved(name: &str, own: &str) -> bool {
    REFUSED.contains(&name)
        || name.starts_with("content-")
        || [sign::ID_HEADER, sign::TIMESTAMP_HEADER, sign::SIGNATURE_HEADER, sign::OWN_HEADER].contains(&name)
        || [own, sign::OWN_HEADER].iter().any(|own| {
            name.strip_prefix(&own.to_ascii_lowercase()).is_some_and(|rest| rest.is_empty() || rest == "-next")
        })
}

/// Writes a member name as a token of a JSON Pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(name: &str, value: &str) -> Result<()> {
        check(&BTreeMap::from([(name.to_owned(), value.to_owned())]), "X-Acme-Signature")
    }

    #[test]
    fn ordinary_headers_pass() {
        for name in ["My-Custom-Header", "Authorization", "x-api-key", "User-Agent", "webhook-ids"] {
            assert!(one(name, "123").is_ok(), "{name}");
        }
        assert!(one("x-empty", "").is_ok());
    }

    #[test]
    fn headers_of_the_message_and_the_signature_are_refused() {
        for name in [
            "Host",
            "content-type",
            "Content-Length",
            "Content-Whatever",
            "Transfer-Encoding",
            "connection",
            "Webhook-Id",
            "webhook-timestamp",
            "webhook-signature",
            "x-acme-signature",
            "X-Acme-Signature-Next",
            "x-cardwire-signature",
            "x-cardwire-signature-next",
            "",
            "a b",
            "naïve",
            "x:y",
        ] {
            let error = one(name, "1").unwrap_err();
            assert_eq!(error.violations()[0].pointer, Some(format!("/headers/{name}")), "{name}");
        }
    }

    #[test]
    fn values_cannot_smuggle() {
        for value in ["a\r\nx: y", "a\n", "\u{0}", &"x".repeat(4097)] {
            assert!(one("x-a", value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(one("a/b~c", "1").unwrap_err().violations()[0].pointer.as_deref(), Some("/headers/a~1b~0c"));
    }

    #[test]
    fn too_many() {
        let headers = (0..51).map(|n| (format!("x-{n}"), String::new())).collect();
        assert!(check(&headers, "x-own").is_err());
    }

    proptest! {
        #[test]
        fn what_passes_can_be_sent_and_says_what_was_written(name in "[A-Za-z-]{1,20}|\\PC{0,20}", value in "[ -~]{0,60}|\\PC{0,60}|.{0,60}") {
            if one(&name, &value).is_ok() {
                let sent = HeaderName::try_from(name.as_str()).unwrap();
                let written = HeaderValue::try_from(value.as_str()).unwrap();
                prop_assert!(!reserved(sent.as_str(), "X-Acme-Signature"));
                prop_assert_eq!(written.as_bytes(), value.as_bytes());
                prop_assert!(!value.contains(['\r', '\n', '\0']));
            }
        }

        #[test]
        fn no_case_of_a_reserved_name_passes(pick in 0_usize..8, upper in any::<u64>()) {
            let name = ["host", "content-type", "webhook-id", "webhook-signature", "webhook-timestamp", "connection",
                "x-acme-signature", "x-acme-signature-next"][pick];
            let cased = name.chars().enumerate().map(|(place, c)| {
                if upper >> (place % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }
            });
            prop_assert!(one(&cased.collect::<String>(), "1").is_err());
        }
    }
}
