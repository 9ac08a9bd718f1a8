//! The cache of credentials.

use super::*;

async fn together(cache: &Arc<Cache>, callers: usize) -> Vec<Result<Credentials, Error>> {
    let calls: Vec<_> = (0..callers)
        .map(|_| {
            let cache = Arc::clone(cache);
            tokio::spawn(async move { cache.get(Asking::No).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn many_callers_share_one_fetch_and_its_failure() {
    let purse = Purse::new([None, Some(credentials("AKID", Some(3600)))]);
    let cache = purse.cache();
    let failed = together(&cache, 20).await;
    assert!(failed.iter().all(|answer| matches!(answer, Err(Error::NoCredentials { .. }))));
    assert_eq!(purse.asked(), 1);
    let fetched = together(&cache, 20).await;
    assert!(fetched.iter().all(Result::is_ok), "a failure is not remembered");
    together(&cache, 20).await;
    assert_eq!(purse.asked(), 2);
}

#[tokio::test]
async fn credentials_near_their_end_are_handed_out_while_new_ones_come() {
    let purse = Purse::new([Some(credentials("AKIDOLD", Some(120))), Some(credentials("AKIDNEW", Some(3600)))]);
    let cache = purse.cache();
    for _ in 0..2 {
        assert_eq!(cache.get(Asking::No).await.unwrap().access_key_id(), "AKIDOLD");
    }
    while cache.get(Asking::No).await.unwrap().access_key_id() == "AKIDOLD" {
        tokio::task::yield_now().await;
    }
    assert_eq!(purse.asked(), 2);
}

#[tokio::test]
async fn a_failed_renewal_does_not_disturb_what_is_still_valid() {
    let purse = Purse::new([Some(credentials("AKIDOLD", Some(120))), None]);
    let cache = purse.cache();
    while purse.asked() < 2 {
        assert_eq!(cache.get(Asking::No).await.unwrap().access_key_id(), "AKIDOLD");
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        assert_eq!(cache.get(Asking::No).await.unwrap().access_key_id(), "AKIDOLD");
        tokio::task::yield_now().await;
    }
    assert_eq!(purse.asked(), 2, "and is not repeated at once");
}

#[tokio::test(start_paused = true)]
async fn credentials_in_use_are_renewed_before_anybody_waits_for_them() {
    let purse = Purse::new([Some(credentials("AKIDOLD", Some(360))), Some(credentials("AKIDNEW", Some(3600)))]);
    let cache = purse.cache();
    for _ in 0..2 {
        assert_eq!(cache.get(Asking::No).await.unwrap().access_key_id(), "AKIDOLD");
    }
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(purse.asked(), 1, "not earlier than need be");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(purse.asked(), 2);
    assert_eq!(cache.get(Asking::No).await.unwrap().access_key_id(), "AKIDNEW");
    assert_eq!(purse.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn unused_credentials_are_not_renewed() {
    let purse = Purse::new([Some(credentials("AKIDOLD", Some(360)))]);
    let cache = purse.cache();
    cache.get(Asking::No).await.unwrap();
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!(purse.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn endless_credentials_are_fetched_again_after_a_login_that_failed() {
    let purse = Purse::new([Some(credentials("AKIDOLD", None)), Some(credentials("AKIDNEW", Some(7200)))]);
    let cache = purse.cache();
    let key = async || cache.get(Asking::No).await.unwrap().access_key_id().to_owned();
    assert_eq!(key().await, "AKIDOLD");
    cache.suspect();
    assert_eq!(key().await, "AKIDOLD", "they have just been fetched: the login failed for another reason");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(key().await, "AKIDOLD");
    cache.suspect();
    assert_eq!(key().await, "AKIDNEW");
    tokio::time::sleep(Duration::from_secs(31)).await;
    cache.suspect();
    assert_eq!(key().await, "AKIDNEW", "these are renewed by their expiry");
    assert_eq!(purse.asked(), 2);
}

#[tokio::test]
async fn expired_credentials_are_never_handed_out() {
    let purse = Purse::new([
        Some(credentials("AKIDDEAD", Some(-60))),
        Some(credentials("AKIDSHORT", Some(5))),
        Some(credentials("AKIDNEW", Some(3600))),
    ]);
    let cache = purse.cache();
    let error = cache.get(Asking::No).await.unwrap_err();
    assert!(matches!(error, Error::CredentialsExpired { .. }), "{error:?}");
    assert!(error.to_string().starts_with("the AWS credentials expired on 20"));
    assert_eq!(cache.get(Asking::No).await.unwrap().access_key_id(), "AKIDSHORT", "the best there is");
    assert_eq!(cache.get(Asking::No).await.unwrap().access_key_id(), "AKIDNEW", "not used twice so near its end");
}
