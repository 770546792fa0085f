//! The one door to the outside network, with the address guard on the address that is actually dialled.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;
use url::{Host, Url};

use crate::config::Config;
use crate::error::{Error, Result};

/// Which addresses may be dialled.
#[derive(Clone, Debug)]
pub struct AddressRules {
    allowed: Vec<IpNet>,
    plain_http: bool,
}

/// The destination is on an address that must not be dialled.
#[derive(Debug)]
pub struct DestinationRefused(pub String);

impl fmt::Display for DestinationRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "destination refused: {}", self.0)
    }
}

impl std::error::Error for DestinationRefused {}

/// Ranges in which no public service lives: RFC 6890 and its kin, and what clouds serve metadata on.
static REFUSED: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
        "::/128",
        "::1/128",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ]
    .iter()
    .filter_map(|range| range.parse().ok())
    .collect()
});

impl AddressRules {
    pub fn new(config: &Config) -> AddressRules {
        AddressRules { allowed: config.allow_destinations.clone(), plain_http: config.allow_http_destinations }
    }

    /// Tells whether this address may be dialled.
    pub fn permit(&self, address: IpAddr) -> bool {
        let address = unmapped(address);
        if self.allowed.iter().any(|range| range.contains(&address)) {
            return true;
        }
        !REFUSED.iter().any(|range| range.contains(&address))
    }

    /// Checks what can be told of a URL before its name is resolved.
    pub fn check(&self, url: &Url) -> Result<(), DestinationRefused> {
        match url.scheme() {
            "https" => {}
            "http" if self.plain_http => {}
            scheme => return Err(DestinationRefused(format!("scheme {scheme} is not allowed"))),
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(DestinationRefused("the URL has no host".to_owned())),
        };
        match literal {
            Some(address) if !self.permit(address) => {
                Err(DestinationRefused(format!("address {address} is not public")))
            }
            _ => Ok(()),
        }
    }

    /// Reads a URL that a caller wants us to call, and says at the pointer what is wrong with it.
    pub fn parse(&self, text: &str, pointer: &str) -> Result<Url> {
        let url = Url::parse(text).map_err(|_| Error::invalid(pointer, "is not a URL"))?;
        if text.len() > 2048 {
            return Err(Error::invalid(pointer, "a URL has at most 2048 characters"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid(pointer, "a URL must not carry a user name or password"));
        }
        self.check(&url).map_err(|refused| Error::invalid(pointer, refused.to_string()))?;
        Ok(url)
    }
}

/// An IPv4 address that hides in an IPv6 one, as itself.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Makes requests to other people's servers: no redirects, no proxies, only permitted addresses.
#[derive(Clone)]
pub struct Outbound {
    client: reqwest::Client,
    rules: Arc<AddressRules>,
}

impl Outbound {
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// As many as may be under way at once to all endpoints of one host: more would be dialled anew each time.
    const IDLE_PER_HOST: usize = 2048;

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn new(rules: AddressRules) -> Result<Outbound> {
        let rules = Arc::new(rules);
        let client = reqwest::Client::builder()
            .user_agent(concat!("Cardwire/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(GuardedResolver { rules: rules.clone() }))
            .connect_timeout(Outbound::CONNECT_TIMEOUT)
            .pool_max_idle_per_host(Outbound::IDLE_PER_HOST)
            .build()
            .map_err(Error::internal)?;
        Ok(Outbound { client, rules })
    }

    pub fn rules(&self) -> &AddressRules {
        &self.rules
    }

    /// Begins a request, or refuses its destination. Names are checked again when they are resolved.
    pub fn request(&self, method: reqwest::Method, url: &Url) -> Result<reqwest::RequestBuilder, DestinationRefused> {
        self.rules.check(url)?;
        Ok(self.client.request(method, url.clone()))
    }
}

/// Tells whether a failed request failed at the address guard.
pub fn refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<DestinationRefused>() {
            return true;
        }
        cause = current.source();
    }
    false
}

/// Resolves names and refuses those with an address that must not be dialled.
struct GuardedResolver {
    rules: Arc<AddressRules>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One bad address refuses the name: whoever controls it could otherwise choose by retrying.
            if let Some(address) = addresses.iter().find(|address| !rules.permit(address.ip())) {
                let refusal = DestinationRefused(format!("{} resolves to {}", name.as_str(), address.ip()));
                return Err(Box::new(refusal) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(allowed: &[&str], plain_http: bool) -> AddressRules {
        AddressRules { allowed: allowed.iter().map(|range| range.parse().unwrap()).collect(), plain_http }
    }

    #[test]
    fn addresses() {
        let rules = rules(&[], false);
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fd00:ec2::254",
        ] {
            assert!(!rules.permit(address.parse().unwrap()), "{address}");
        }
        for address in ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"] {
            assert!(rules.permit(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_operator_may_allow_a_range() {
        let rules = rules(&["127.0.0.0/8"], true);
        assert!(rules.permit("127.0.0.1".parse().unwrap()));
        assert!(rules.permit("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!rules.permit("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn urls() {
        let strict = rules(&[], false);
        for url in [
            "http://example.com/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://2130706433/",
            "https://0x7f.1/",
            "ftp://example.com/",
            "https://user:pw@example.com/",
            "nonsense",
            "https://[::ffff:7f00:1]/",
        ] {
            assert!(strict.parse(url, "/url").is_err(), "{url}");
        }
        assert!(strict.parse("https://example.com/hook?x=1", "/url").is_ok());
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_when_dialled() {
        let outbound = Outbound::new(rules(&[], true)).unwrap();
        let url = Url::parse("http://localhost:9/").unwrap();
        let error = outbound.request(reqwest::Method::GET, &url).unwrap().send().await.unwrap_err();
        assert!(refused(&error), "{error:?}");
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_public_and_plain(text in "(http|https|ftp|)(://|:|)[a-z0-9.:@%\\[\\]xX/?#_-]{0,40}|\\PC{0,60}") {
            let strict = rules(&[], false);
            if let Ok(url) = strict.parse(&text, "/url") {
                prop_assert_eq!(url.scheme(), "https");
                prop_assert!(url.username().is_empty() && url.password().is_none());
                match url.host() {
                    Some(Host::Ipv4(address)) => prop_assert!(strict.permit(address.into())),
                    Some(Host::Ipv6(address)) => prop_assert!(strict.permit(address.into())),
                    host => prop_assert!(host.is_some()),
                }
            }
        }

        /// However an address is written, it is the same address.
        #[test]
        fn no_spelling_of_an_address_gets_around_the_rules(number in any::<u32>(), private in 0_usize..6, low in any::<u16>()) {
            let first = [0x7f00_0000, 0x0a00_0000, 0xc0a8_0000, 0xa9fe_0000, 0x6440_0000, 0xac10_0000][private];
            for number in [number, first | u32::from(low)] {
                let address = std::net::Ipv4Addr::from(number);
                let [a, b, c, d] = address.octets();
                let strict = rules(&[], false);
                let permitted = strict.permit(address.into());
                prop_assert_eq!(strict.permit(address.to_ipv6_mapped().into()), permitted);
                for spelling in [
                    format!("{number}"),
                    format!("0x{number:x}"),
                    format!("0{number:o}"),
                    format!("{a}.{b}.{}", u32::from(c) << 8 | u32::from(d)),
                    format!("0x{a:x}.0{b:o}.{c}.{d}"),
                    format!("[::ffff:{address}]"),
                    format!("{address}."),
                ] {
                    let accepted = strict.parse(&format!("https://{spelling}/"), "/url").is_ok();
                    prop_assert_eq!(accepted, permitted, "{}", spelling);
                }
            }
        }
    }
}
