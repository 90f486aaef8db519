//! An `OrgInvite` whose Organization is missing or not ready: nothing can be observed, nothing is sent or taken back.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::context::Context;
use super::org_invite::say;
use crate::claims;
use crate::error::Error;
use crate::leadership::Term;
use crate::plan::{Saying, State};
use crate::resources::org_invite::DeletionPolicy;
use crate::resources::{Address, OrgInvite, Reason};

/// The Organization is missing or not ready: nothing can be observed.
pub async fn reconcile(
    context: &Context,
    term: &Term,
    object: &OrgInvite,
    address: &Address,
    saying: Saying,
) -> Result<Action, Error> {
    if object.metadata.deletion_timestamp.is_some() {
        let retain = object.spec.deletion_policy == DeletionPolicy::Retain;
        let open = claims::is_open(object);
        if retain && open {
            // As with an Organization: an e-mail that is on its way could be sent twice else.
            let last_call = term.last_call(address).await.unwrap_or(term.began);
            let settles_at = last_call.max(term.began) + context.timing.settle;
            let wait = settles_at.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                let message = format!(
                    "{}. The object goes once an e-mail that may be on its way has had time to arrive",
                    saying.message
                );
                let saying = Saying { message, ..saying };
                say(context, object, State::Progressing(saying)).await?;
                return Ok(Action::requeue(wait));
            }
        }
        let nothing = claims::invite(object).is_none() && !open;
        let may_have_sent = open && matches!(claims::attempt(object), Some(Ok(_)));
        let heir = |other: &Arc<OrgInvite>| {
            other.uid() != object.uid()
                && other.metadata.deletion_timestamp.is_none()
                && other.spec.organization_ref == object.spec.organization_ref
                // The way out is not for another namespace to close.
                && (!retain || other.metadata.namespace == object.metadata.namespace)
        };
        let others = || match object
            .status
            .as_ref()
            .and_then(|status| status.organization_id.as_ref())
        {
            Some(organization) => context.claimants(address, organization),
            None => context.invites.for_address(address),
        };
        if (nothing || retain)
            && (may_have_sent || claims::recorded(object).is_some())
            && saying.reason != Reason::OrganizationNotFound
            && others().iter().any(heir)
        {
            let message = format!(
                "{}. Another OrgInvite for the address takes over from this one once that is mended. Delete that one first to let this one go",
                saying.message
            );
            let saying = Saying { message, ..saying };
            return say(context, object, State::Progressing(saying)).await;
        }
        if nothing || retain {
            context.writer.release(object).await?;
            return Ok(Action::await_change());
        }
        let message = format!(
            "{}. The invitation cannot be taken back meanwhile",
            saying.message
        );
        let saying = Saying { message, ..saying };
        return say(context, object, State::Progressing(saying)).await;
    }
    say(context, object, meanwhile(object, saying)).await
}

/// What keeps everything from going on is said so, and what is recorded holds as far as anybody knows.
pub fn meanwhile(object: &OrgInvite, saying: Saying) -> State {
    // Of one that goes, the invitation may have been taken back already.
    if claims::recorded(object).is_some() && object.metadata.deletion_timestamp.is_none() {
        State::Obscured(saying)
    } else {
        State::Progressing(saying)
    }
}
