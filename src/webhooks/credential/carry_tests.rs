//! Signatures of published cases, and what host names tell.

use super::*;

#[test]
fn host_names_tell_region_and_service() {
    for (host, told) in [
        ("sqs.eu-west-1.amazonaws.com", Some(("eu-west-1", "sqs"))),
        ("a1b2.execute-api.ap-southeast-2.amazonaws.com", Some(("ap-southeast-2", "execute-api"))),
        ("iam.amazonaws.com", Some(("us-east-1", "iam"))),
        ("bucket.s3.amazonaws.com", Some(("us-east-1", "s3"))),
        ("x.lambda-url.eu-central-1.on.aws", Some(("eu-central-1", "lambda"))),
        ("sns.cn-north-1.amazonaws.com.cn", Some(("cn-north-1", "sns"))),
        ("example.com", None),
        ("amazonaws.com", None),
    ] {
        let told = told.map(|(region, service)| (region.to_owned(), service.to_owned()));
        assert_eq!(told_by(host), told, "{host}");
    }
}

/// The session token of the published test suite.
const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

/// A case of the published test suite of Signature Version 4.
struct Published {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    session: Option<&'static str>,
    /// Absent where the published request names the hash of its body in a header, as only one service asks for.
    in_header: Option<&'static str>,
    in_query: &'static str,
}

const PUBLISHED: &[Published] = &[
    Published {
        name: "get-vanilla",
        method: "GET",
        path: "/",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        in_query: "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d",
    },
    Published {
        name: "post-vanilla",
        method: "POST",
        path: "/",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        in_query: "2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b",
    },
    Published {
        name: "get-vanilla-empty-query-key",
        method: "GET",
        path: "/?Param1=value1",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        in_query: "49096700cbbaa5753443850f40df10f904fc2fdb544dc9512203cc77c471a9de",
    },
    Published {
        name: "get-vanilla-query-order-key-case",
        method: "GET",
        path: "/?Param2=value2&Param1=value1",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        in_query: "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
    },
    Published {
        name: "get-vanilla-query-order-encoded",
        method: "GET",
        path: "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
        in_query: "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787",
    },
    Published {
        name: "get-vanilla-query-unreserved",
        method: "GET",
        path: "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        in_query: "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf",
    },
    Published {
        name: "get-unreserved",
        method: "GET",
        path: "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        in_query: "95968482db1b9e0fadef6efc1bd24689f77c77d9ef56919c96a28cc92e0d6005",
    },
    Published {
        name: "post-vanilla-query",
        method: "POST",
        path: "/?Param1=value1",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        in_query: "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682",
    },
    Published {
        name: "post-vanilla-empty-query-value",
        method: "POST",
        path: "/?Param1=value1",
        headers: &[],
        body: "",
        session: None,
        in_header: Some("28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        in_query: "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682",
    },
    Published {
        name: "post-header-key-sort",
        method: "POST",
        path: "/",
        headers: &[("my-header1", "value1")],
        body: "",
        session: None,
        in_header: Some("c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        in_query: "c09d07e0d55871f10f2a6d350d994acf6825a3cae70673d7def55616e6119dd7",
    },
    Published {
        name: "post-header-value-case",
        method: "POST",
        path: "/",
        headers: &[("my-header1", "VALUE1")],
        body: "",
        session: None,
        in_header: Some("cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
        in_query: "0698bc9e4f7f9139065ba2909c0e99da257e8e2a42492a097bcd46d792391fed",
    },
    Published {
        name: "get-header-key-duplicate",
        method: "GET",
        path: "/",
        headers: &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
        body: "",
        session: None,
        in_header: Some("c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
        in_query: "3349ee0b81b4b589da0ff28a395c3591e04de515651dd74f298fa992d1507a97",
    },
    Published {
        name: "get-header-value-trim",
        method: "GET",
        path: "/",
        headers: &[("my-header1", "value1"), ("my-header2", "\"a   b   c\"")],
        body: "",
        session: None,
        in_header: Some("acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        in_query: "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4",
    },
    Published {
        name: "get-header-value-order",
        method: "GET",
        path: "/",
        headers: &[
            ("my-header1", "value4"),
            ("my-header1", "value1"),
            ("my-header1", "value3"),
            ("my-header1", "value2"),
        ],
        body: "",
        session: None,
        in_header: Some("08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
        in_query: "313720e71ca6202fdcfa9b20f88de01a4eb0638a83c833b1c184359a4eda864e",
    },
    Published {
        name: "post-x-www-form-urlencoded",
        method: "POST",
        path: "/",
        headers: &[("content-type", "application/x-www-form-urlencoded"), ("content-length", "13")],
        body: "Param1=value1",
        session: None,
        in_header: None,
        in_query: "89a40deed0f26f9461242825a082d2222717248abc7ab41f552ad84a94ad46e9",
    },
    Published {
        name: "post-x-www-form-urlencoded-parameters",
        method: "POST",
        path: "/",
        headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8"), ("content-length", "13")],
        body: "Param1=value1",
        session: None,
        in_header: None,
        in_query: "0dbeb9b026c7b6675f266b8427efec9b4fa8b1f6ef1477d717aea231106eab4d",
    },
    Published {
        name: "get-vanilla-with-session-token",
        method: "GET",
        path: "/",
        headers: &[],
        body: "",
        session: Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"),
        in_header: Some("07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
        in_query: "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c",
    },
    Published {
        name: "post-sts-header-before",
        method: "POST",
        path: "/",
        headers: &[],
        body: "",
        session: Some(SESSION),
        in_header: Some("85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
        in_query: "46c2e3c63c1dbe7d39f8ada16fe7f001c1f56c5791441565323677f96308871c",
    },
];

/// Signs a case as the suite does: at its time, with its keys, and in a query for an hour.
fn signed(case: &Published, sign_query: bool) -> (Url, HeaderMap) {
    let carried = Carried {
        id: crate::ids::Ids::seeded(1).unguessable(),
        revision: 1,
        settings: Settings::AwsSigned {
            access_key_id: "AKIDEXAMPLE".into(),
            sign_query,
            region: Some("us-east-1".into()),
            service: Some("service".into()),
        },
        secrets: Secrets {
            main: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: case.session.map(str::to_owned),
        },
    };
    let method = Method::from_bytes(case.method.as_bytes()).unwrap();
    let mut url = Url::parse(&format!("https://example.amazonaws.com{}", case.path)).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in case.headers {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let parcel = Parcel { method: &method, url: &mut url, headers: &mut headers, body: case.body.as_bytes() };
    carried.sign(parcel, Time::parse("2015-08-30T12:36:00Z").unwrap(), Duration::from_secs(3600)).unwrap();
    (url, headers)
}

#[test]
fn the_published_cases_are_signed_as_published_in_the_header() {
    for case in PUBLISHED {
        let Some(expected) = case.in_header else { continue };
        let (_, headers) = signed(case, false);
        let authorization = headers["authorization"].to_str().unwrap();
        assert_eq!(authorization.rsplit("Signature=").next(), Some(expected), "{}", case.name);
        let session = headers.get("x-amz-security-token").map(|value| value.to_str().unwrap());
        assert_eq!(session, case.session, "{}", case.name);
    }
}

#[test]
fn the_published_cases_are_signed_as_published_in_the_query() {
    for case in PUBLISHED {
        let (url, headers) = signed(case, true);
        let of = |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
        assert_eq!(of("X-Amz-Signature").as_deref(), Some(case.in_query), "{}", case.name);
        assert_eq!(of("X-Amz-Security-Token").as_deref(), case.session, "{}", case.name);
        assert_eq!(of("X-Amz-Expires").as_deref(), Some("3600"), "{}", case.name);
        assert!(!headers.contains_key("authorization"), "{}", case.name);
    }
}
