//! A plain HTTP client that speaks JSON and remembers nothing.

use reqwest::Method;
use serde_json::{Value, json};

/// Calls one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    origin: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// `data` of a successful answer.
    pub fn data(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text);
        self.json()["data"].clone()
    }

    /// Code and pointer of each error, such as `validation_failed /flows/0/target`.
    pub fn errors(&self) -> Vec<String> {
        let json = self.json();
        let errors = json["errors"].as_array().unwrap_or_else(|| panic!("no errors: {}", self.text));
        errors.iter().map(brief).collect()
    }
}

fn brief(error: &Value) -> String {
    let of = |value: &Value| value.as_str().map(str::to_owned);
    let code = of(&error["code"]).or_else(|| of(&error["extensions"]["code"])).unwrap_or_default();
    match of(&error["source"]["pointer"]).or_else(|| of(&error["extensions"]["pointer"])) {
        Some(pointer) => format!("{code} {pointer}"),
        None => code,
    }
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "tests call the server under test on loopback")]
    pub fn new(origin: &str) -> Client {
        Client { http: reqwest::Client::new(), origin: origin.to_owned() }
    }

    /// Sends a request as it is, with these headers.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// The same against a server that may be gone.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer, reqwest::Error> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.origin)).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(Answer { status, headers, text: response.text().await? })
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.send("GET", path, &[("authorization", &format!("Bearer {token}"))], "").await
    }

    pub async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string()).await
    }

    /// The same against a server that may be gone: no whole answer is no answer.
    pub async fn try_call(&self, token: &str, method: &str, path: &str, body: Value) -> Option<Answer> {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        self.try_send(method, path, &headers, body.to_string()).await.ok()
    }

    /// A GraphQL operation with extra headers; the whole answer.
    pub async fn graphql_with(&self, headers: &[(&str, &str)], query: &str, variables: Value) -> Answer {
        let body = json!({ "query": query, "variables": variables });
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send("POST", "/graphql", &headers, body.to_string()).await
    }

    /// A GraphQL operation with a bearer token; the whole answer.
    pub async fn graphql(&self, token: &str, query: &str, variables: Value) -> Answer {
        self.graphql_with(&[("authorization", &format!("Bearer {token}"))], query, variables).await
    }
}
