//! A webhook as target: a POST of the document over HTTP, by hyper's client and rustls.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tcpguard_host::hint::Failure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::dispatch::{DeliveryError, Target};
use super::document::Hook;
use super::secret::Secret;

/// Time for one try, from the look-up of the name to the response.
const LIMIT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("tcpguard-fleet/", env!("CARGO_PKG_VERSION"));
/// Id of the event, by which a receiver recognises a repeated delivery.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// HMAC-SHA-256 of the body, by which a receiver recognises the sender.
const SIGNATURE: &str = "x-tcpguard-signature";

/// Settings of a webhook.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its URL: `https`, or `http` to this host.
    pub url: String,
    /// Key of the signature.
    pub key: Option<Secret>,
    /// Token of the header `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// Certificates of the authorities that are trusted, in PEM; `None`: those of the system.
    pub authorities: Option<PathBuf>,
}

/// A receiver of documents over HTTP.
pub struct Webhook {
    host: String,
    port: u16,
    /// Value of the header `Host`.
    authority: HeaderValue,
    path: PathAndQuery,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    key: Option<Secret>,
    authorization: Option<HeaderValue>,
}

impl Webhook {
    /// A webhook with these settings. It is not called yet.
    ///
    /// # Errors
    /// When the URL is none of a webhook, or the authorities cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let hint = "write it as https://host/path";
        let wrong = |why: &str| Failure::new(format!("the URL of the webhook {why}"), hint);
        let url: Uri = settings.url.parse().map_err(|_| wrong("cannot be read"))?;
        let authority = url.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("holds a password: use a token in a file"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_secure = url.scheme() == Some(&Scheme::HTTPS);
        let stays_here = url.scheme() == Some(&Scheme::HTTP) && is_local(&host);
        if !is_secure && !stays_here {
            return Err(wrong("is not https"));
        }
        let tls = match is_secure {
            true => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong("has no host"))?;
                Some((connector(settings.authorities.as_deref())?, name))
            }
            false => None,
        };
        let port = url.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let path = url.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let authority =
            HeaderValue::try_from(authority.as_str()).map_err(|_| wrong("has no host"))?;
        let authorization = settings.token.as_ref().map(bearer).transpose()?;
        let key = settings.key.clone();
        Ok(Self { host, port, authority, path, tls, key, authorization })
    }

    fn request(&self, hook: &Hook) -> http::Result<Request<Full<Bytes>>> {
        let body = hook.to_json();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(Uri::from(self.path.clone()))
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONTENT_TYPE, "application/json")
            .header(IDEMPOTENCY_KEY, hook.id.to_string());
        if let Some(key) = &self.key {
            request = request.header(SIGNATURE, key.sign(&body));
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(Full::new(Bytes::from(body)))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        match &self.tls {
            None => send(stream, request).await,
            Some((connector, name)) => {
                send(connector.connect(name.clone(), stream).await?, request).await
            }
        }
    }
}

impl Target for Webhook {
    async fn deliver(&self, hook: &Hook) -> Result<(), DeliveryError> {
        let request = self.request(hook);
        let request = request.map_err(|error| DeliveryError::Permanent(error.to_string()))?;
        match tokio::time::timeout(LIMIT, self.exchange(request)).await {
            Ok(Ok(status)) => judge(status),
            Ok(Err(error)) => Err(DeliveryError::Temporary(error.to_string())),
            Err(_) => {
                Err(DeliveryError::Temporary(format!("no response within {}s", LIMIT.as_secs())))
            }
        }
    }
}

/// Sends a request over a connection of its own, and returns the status. The body of the response is not read.
async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends the connection when this future is dropped.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok(sender.send_request(request).await?.status())
}

/// The meaning of a status. Redirects are not followed: they could lead anywhere, with the document and the token.
fn judge(status: StatusCode) -> Result<(), DeliveryError> {
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(DeliveryError::Permanent(format!("{status}: redirects are not followed"))),
        408 | 425 | 429 | 500..=599 => Err(DeliveryError::Temporary(status.to_string())),
        _ => Err(DeliveryError::Permanent(status.to_string())),
    }
}

/// Returns whether a host is this one, so that nothing is sent over a network.
fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn bearer(token: &Secret) -> Result<HeaderValue, Failure> {
    let value = [&b"Bearer "[..], token.bytes()].concat();
    let mut value = HeaderValue::try_from(value).map_err(|_| {
        let hint = "write the token alone into its file, on one line";
        Failure::new("the token of the webhook holds control characters", hint)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A client of TLS that trusts the authorities of a file, or those of the system.
fn connector(authorities: Option<&Path>) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let shown = path.display();
            let unread = |why: &dyn std::fmt::Display| {
                let hint = format!("openssl x509 -in {shown} -noout -text");
                Failure::new(format!("cannot read certificates of {shown}: {why}"), hint)
            };
            let found = CertificateDer::pem_file_iter(path).map_err(|error| unread(&error))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| unread(&error))?;
                roots.add(certificate).map_err(|error| unread(&error))?;
            }
            if roots.is_empty() {
                return Err(unread(&"there are none"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let hint = "apt-get install ca-certificates";
                return Err(Failure::new("the system trusts no certificate authority", hint));
            }
        }
    }
    let provider = Arc::new(ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Failure::new(format!("TLS: {error}"), "report this"))?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::super::document::EventKind;
    use super::super::document::tests::hook;
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings { url: url.to_owned(), key: None, token: None, authorities: None }
    }

    fn secret(text: &str) -> Secret {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Secret::read(&path).unwrap()
    }

    /// A server that takes one request and sends these bytes. It returns the head of the request in lines, and the body.
    async fn server(
        response: &'static str,
    ) -> (u16, tokio::task::JoinHandle<(Vec<String>, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let (mut head, mut length) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                if line.trim_end().is_empty() {
                    break;
                }
                if let Some(text) = line.strip_prefix("content-length: ") {
                    length = text.trim_end().parse().unwrap();
                }
                head.push(line.trim_end().to_owned());
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(response.as_bytes()).await.unwrap();
            (head, body)
        });
        (port, server)
    }

    async fn delivered(response: &'static str) -> Result<(), DeliveryError> {
        let (port, _server) = server(response).await;
        let webhook = Webhook::new(&settings(&format!("http://127.0.0.1:{port}/hook"))).unwrap();
        webhook.deliver(&hook(EventKind::Start, 7)).await
    }

    #[tokio::test]
    async fn a_document_is_posted_with_its_id_and_signature() {
        let (port, server) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
        let settings = Settings {
            key: Some(secret("Jefe")),
            token: Some(secret("t0ken\n")),
            ..settings(&format!("http://127.0.0.1:{port}/hook?to=ops"))
        };
        let hook = hook(EventKind::Start, 7);
        Webhook::new(&settings).unwrap().deliver(&hook).await.unwrap();
        let (head, body) = server.await.unwrap();
        assert_eq!(body, hook.to_json());
        assert_eq!(head[0], "POST /hook?to=ops HTTP/1.1");
        for line in [
            format!("host: 127.0.0.1:{port}"),
            "content-type: application/json".to_owned(),
            format!("idempotency-key: {}", hook.id),
            format!("x-tcpguard-signature: {}", secret("Jefe").sign(&body)),
            "authorization: Bearer t0ken".to_owned(),
        ] {
            assert!(head.contains(&line), "{line} in {head:?}");
        }
    }

    #[tokio::test]
    async fn the_status_says_whether_another_try_makes_sense() {
        assert_eq!(delivered("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await, Ok(()));
        for response in [
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            "HTTP/1.1 429 Too Many Requests\r\n\r\n",
            "no HTTP at all\r\n\r\n",
            "",
        ] {
            let result = delivered(response).await;
            assert!(matches!(result, Err(DeliveryError::Temporary(_))), "{response}: {result:?}");
        }
        for response in [
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n",
            "HTTP/1.1 401 Unauthorized\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
        ] {
            let result = delivered(response).await;
            assert!(matches!(result, Err(DeliveryError::Permanent(_))), "{response}: {result:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_tried_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let webhook = Webhook::new(&settings(&format!("http://127.0.0.1:{port}/"))).unwrap();
        let result = webhook.deliver(&hook(EventKind::Start, 7)).await;
        assert!(matches!(result, Err(DeliveryError::Temporary(_))), "{result:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_respond_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let webhook = Webhook::new(&settings(&format!("http://127.0.0.1:{port}/"))).unwrap();
        let result = webhook.deliver(&hook(EventKind::Start, 7)).await;
        let late = DeliveryError::Temporary("no response within 5s".to_owned());
        assert_eq!(result, Err(late));
    }

    #[test]
    fn a_url_is_secure_or_stays_on_this_host() {
        for url in ["http://localhost/a", "http://127.0.0.1:8080", "http://[::1]:8080/a"] {
            let webhook = Webhook::new(&settings(url)).unwrap();
            assert!(webhook.tls.is_none(), "{url}");
        }
        let ipv6 = Webhook::new(&settings("http://[::1]:8080/a")).unwrap();
        assert_eq!((ipv6.host.as_str(), ipv6.port, ipv6.path.as_str()), ("::1", 8080, "/a"));
        for (url, why) in [
            ("http://example.org/a", "is not https"),
            ("http://192.0.2.10/a", "is not https"),
            ("ftp://example.org/a", "is not https"),
            ("/a", "has no host"),
            ("https://user:word@example.org/", "holds a password: use a token in a file"),
            ("https:// example.org/", "cannot be read"),
        ] {
            let error = Webhook::new(&settings(url)).err().expect(url);
            assert_eq!(error.message, format!("the URL of the webhook {why}"), "{url}");
        }
    }

    #[test]
    fn the_authorities_of_a_file_are_the_only_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let of_file = |path: &Path| {
            let authorities = Some(path.to_owned());
            Webhook::new(&Settings { authorities, ..settings("https://example.org/") })
        };
        let missing = of_file(&path).err().expect("it is missing");
        assert!(missing.message.starts_with("cannot read certificates of "), "{}", missing.message);
        std::fs::write(&path, "no certificate").unwrap();
        let empty = of_file(&path).err().expect("it holds none");
        assert!(empty.message.ends_with(": there are none"), "{}", empty.message);
    }

    #[test]
    fn a_token_is_one_line() {
        assert!(bearer(&secret("two\nlines")).is_err());
        let value = bearer(&secret("t0ken")).unwrap();
        assert!(value.is_sensitive() && value == "Bearer t0ken");
    }
}
