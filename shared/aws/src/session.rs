//! Credentials, regions, endpoints and timeouts: what every call has in common.

use std::pin::Pin;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::tls;

/// How long a connection may take to be made.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);

/// How long one try of a call may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How long a call may take with all its tries.
const OPERATION: Duration = Duration::from_secs(30);

/// How often a call is tried, and the pause before the second try; it doubles, and is varied.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A session on its way, boxed as a [`Call`](crate::Call) is.
pub type Loading<'a> = Pin<Box<dyn Future<Output = Session> + Send + 'a>>;

/// Who calls AWS and where: credentials and region by the [default chain], endpoints by `AWS_ENDPOINT_URL`.
///
/// Each call has 10 s a try, three tries and 30 s in all, unless its module says otherwise.
///
/// [default chain]: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
#[derive(Clone, Debug)]
pub struct Session {
    config: SdkConfig,
}

impl Session {
    /// Takes up what the environment and the profile say. No call is made yet, but outside of an instance that has a
    /// region for itself the metadata service may be asked for one; that ends by itself within seconds.
    pub fn load() -> Loading<'static> {
        Box::pin(async move {
            let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client());
            Self { config: loader.timeout_config(timeouts()).retry_config(retries()).load().await }
        })
    }

    /// One whose endpoint, region and credentials are given outright, whatever the environment says: for what stands in
    /// for AWS.
    #[must_use]
    pub fn at(endpoint: &str, region: &str, key_id: &str, secret: &str) -> Self {
        let credentials = Credentials::new(key_id, secret, None, None, "given");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http_client())
            // The default chain brings these by itself; without them no call has a timeout and no role can be assumed.
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::new(SystemTimeSource::new()))
            .timeout_config(timeouts())
            .retry_config(retries());
        Self { config: config.build() }
    }

    /// [`Self::at`] an emulator of AWS, with keys that emulators take.
    #[must_use]
    pub fn emulated(endpoint: &str, region: &str) -> Self {
        Self::at(endpoint, region, "test", "test")
    }

    /// The same in this region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
        Self { config }
    }

    /// The same under this role, which is assumed when it is first needed and again before it expires. `name` tells
    /// the session apart in CloudTrail.
    pub fn assuming<'a>(&'a self, role_arn: &'a str, name: &'a str) -> Loading<'a> {
        Box::pin(async move {
            let provider = AssumeRoleProvider::builder(role_arn)
                .session_name(session_name(name))
                .configure(&self.config)
                .build()
                .await;
            let credentials = SharedCredentialsProvider::new(provider);
            // The cache of the former credentials must not answer for these.
            let config = self
                .config
                .to_builder()
                .credentials_provider(credentials)
                .identity_cache(aws_config::identity::IdentityCache::lazy().build())
                .build();
            Self { config }
        })
    }

    /// The region, where one is known.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.config.region().map(Region::as_ref)
    }

    /// What a client of the SDK is made of.
    #[must_use]
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }
}

/// HTTPS with the system's root certificates. The SDK's own choice of cryptography, aws-lc, is a C library that takes a
/// minute to build; ring takes seconds.
fn http_client() -> SharedHttpClient {
    let ring = tls::rustls_provider::CryptoMode::Ring;
    aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(ring)).build_https()
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(PAUSE)
        .with_max_backoff(LONGEST_PAUSE)
}

/// STS takes 2 to 64 characters of `[\w+=,.@-]`.
fn session_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '-' };
    format!("crosswatch-{name}").chars().map(allowed).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_as_sts_takes_it() {
        assert_eq!(session_name("eu-west-1"), "crosswatch-eu-west-1");
        assert_eq!(session_name("a b/ü"), "crosswatch-a-b--");
        assert_eq!(session_name(&"x".repeat(99)).len(), 64);
    }
}
