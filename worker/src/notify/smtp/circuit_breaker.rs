//! Whether the server is to be had at all. When no session gets through any more, all of them wait but one, which tries
//! again and again, less and less often. Knows nothing of mails.

use std::time::Duration;

use tokio::sync::watch;

use crate::notify::transport::Words;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What all sessions of a process know of their server.
pub(crate) struct Weather {
    sky: watch::Sender<Sky>,
    first_delay: Duration,
}

#[derive(Debug, Default)]
struct Sky {
    /// What keeps everybody from sending.
    trouble: Option<Words>,
    /// Sessions whose last offer the server listened to.
    standing: usize,
    /// Somebody tries for all.
    probed: bool,
    failures: u32,
}

/// Where one session stands.
#[derive(Debug, Default)]
pub(crate) struct Footing {
    standing: bool,
    probing: bool,
    failures: u32,
}

/// What a session does that the server did not listen to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fall {
    /// Others get through: it leaves its mail to them, and comes back after a while.
    Alone(Duration),
    /// Nobody does. It asks for its turn again.
    WithAll,
}

impl Weather {
    pub(crate) fn new(first_delay: Option<Duration>) -> Self {
        Self { sky: watch::Sender::default(), first_delay: first_delay.unwrap_or(FIRST_DELAY) }
    }

    /// What keeps everybody from sending.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.sky.borrow().trouble.as_ref().map(ToString::to_string)
    }

    /// Waits until it is this session's turn to try: at once while all is well.
    pub(crate) async fn turn(&self, footing: &mut Footing) {
        let mut changes = self.sky.subscribe();
        loop {
            let mut delay = None;
            self.sky.send_if_modified(|sky| {
                if sky.trouble.is_some() && (footing.probing || !sky.probed) {
                    sky.probed = true;
                    footing.probing = true;
                    delay = Some(self.delay(sky.failures));
                }
                false
            });
            if let Some(delay) = delay {
                // Somebody whose answer was slow in coming may yet show that all is well.
                tokio::select! {
                    () = tokio::time::sleep(delay) => return,
                    _ = changes.wait_for(|sky| sky.trouble.is_none()) => {}
                }
                footing.probing = false;
                return;
            }
            let settled = changes.wait_for(|sky| sky.trouble.is_none() || !sky.probed).await;
            if settled.is_ok_and(|sky| sky.trouble.is_none()) {
                return;
            }
        }
    }

    /// The server listened.
    pub(crate) fn fair(&self, footing: &mut Footing) {
        footing.failures = 0;
        footing.probing = false;
        let first = !std::mem::replace(&mut footing.standing, true);
        self.sky.send_if_modified(|sky| {
            sky.standing += usize::from(first);
            sky.failures = 0;
            sky.probed = false;
            sky.trouble.take().is_some()
        });
    }

    /// The server did not listen.
    pub(crate) fn foul(&self, footing: &mut Footing, words: &Words) -> Fall {
        let stood = std::mem::take(&mut footing.standing);
        let mut fall = Fall::WithAll;
        self.sky.send_if_modified(|sky| {
            sky.standing -= usize::from(stood);
            if sky.standing > 0 {
                fall = Fall::Alone(self.delay(footing.failures));
                footing.failures += 1;
                return false;
            }
            if sky.trouble.is_none() {
                tracing::warn!("no mail goes out: {words}");
            }
            sky.failures += u32::from(footing.probing);
            sky.trouble = Some(words.clone());
            true
        });
        fall
    }

    /// A session that probed has nothing to probe with any more: somebody else does.
    pub(crate) fn resign(&self, footing: &mut Footing) {
        if std::mem::take(&mut footing.probing) {
            self.sky.send_modify(|sky| sky.probed = false);
        }
    }

    fn delay(&self, failures: u32) -> Duration {
        self.first_delay.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn words() -> Words {
        Words::new("smtp://mail:25: cannot connect")
    }

    #[tokio::test(start_paused = true)]
    async fn one_session_tries_for_all_and_less_and_less_often() {
        let weather = Weather::new(None);
        let (mut probing, mut waiting) = (Footing::default(), Footing::default());
        weather.turn(&mut probing).await;
        assert_eq!(weather.foul(&mut probing, &words()), Fall::WithAll);
        assert_eq!(weather.foul(&mut waiting, &words()), Fall::WithAll);
        let mut delays = Vec::new();
        for _ in 0..7 {
            let since = Instant::now();
            weather.turn(&mut probing).await;
            delays.push(since.elapsed().as_secs());
            let waits = tokio::time::timeout(Duration::from_secs(600), weather.turn(&mut waiting)).await;
            assert!(waits.is_err());
            assert_eq!(weather.foul(&mut probing, &words()), Fall::WithAll);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(weather.trouble().as_deref(), Some("smtp://mail:25: cannot connect"));
        weather.turn(&mut probing).await;
        weather.fair(&mut probing);
        weather.turn(&mut waiting).await;
        assert_eq!(weather.trouble(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_session_tries_when_the_first_has_nothing_to_try_with() {
        let weather = Weather::new(None);
        let (mut first, mut second) = (Footing::default(), Footing::default());
        weather.foul(&mut first, &words());
        weather.turn(&mut first).await;
        {
            let turn = weather.turn(&mut second);
            tokio::pin!(turn);
            assert!(tokio::time::timeout(Duration::from_secs(60), &mut turn).await.is_err());
            weather.resign(&mut first);
            turn.await;
        }
        weather.foul(&mut second, &words());
        assert!(weather.trouble().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_alone_is_refused_leaves_the_others_alone() {
        let weather = Weather::new(None);
        let (mut through, mut refused) = (Footing::default(), Footing::default());
        weather.fair(&mut through);
        assert_eq!(weather.foul(&mut refused, &words()), Fall::Alone(Duration::from_secs(1)));
        assert_eq!(weather.foul(&mut refused, &words()), Fall::Alone(Duration::from_secs(2)));
        assert_eq!(weather.trouble(), None);
        assert_eq!(weather.foul(&mut through, &words()), Fall::WithAll);
        assert!(weather.trouble().is_some());
        weather.fair(&mut through);
        assert_eq!(weather.trouble(), None);
    }
}
