"""This node's place in its formation: founded or joined, its grant, and what it may sign.

What is known of grants and revocations stands in the roster, fed by the records. Here it is decided which of them this node shows, when
it asks for a new one, and what it signs for others.

The rule: a key signs only what its holder may grant: the root key operators, an operator's key members.
"""

from __future__ import annotations

import logging

from skerry.errors import Code, Refused, SkerryError, UsageError
from skerry.identity.grants import (
    Grant,
    Role,
    Roster,
    Standing,
    State,
    depart,
    digest_of_revocations,
    issue,
    read_grant,
    revoke,
)
from skerry.identity.keys import KeyPair, short
from skerry.identity.statement import Statement
from skerry.ports import Clock, Keyring
from skerry.records.record import renewal_due
from skerry.records.replica import Replica

ROOT_KEY = "root"
VERDICT_MS = 1000  # how long a verdict is believed while nothing is learned: grants lapse by the day, and clocks may differ by minutes
log = logging.getLogger(__name__)


class Trust:
    """Grants and revocations as this node sees and makes them."""

    def __init__(self, key: KeyPair, formation: bytes, roster: Roster, replica: Replica, *, keyring: Keyring, clock: Clock) -> None:
        self.key = key
        self.formation = formation
        self.roster = roster
        self._replica = replica
        self._keyring = keyring
        self._clock = clock
        self._verdicts: dict[bytes, tuple[tuple[int, int], int, Standing]] = {}  # node -> roster's version of it, when judged, verdict

    @property
    def holds_root(self) -> bool:
        return self._keyring.load(ROOT_KEY) is not None

    def standing(self, node: bytes) -> Standing:
        """What `node` is now, as the roster judges; every task asks this of every candidate."""
        now_ms = self._clock.now_ms()
        version, judged_ms, standing = self._verdicts.get(node, _NO_VERDICT)
        if 0 <= now_ms - judged_ms < VERDICT_MS and version == self.roster.version_of(node):
            return standing
        standing = self.roster.standing(node, now_ms=now_ms)
        if self.roster.knows(node):  # a stranger is judged anew, and takes no room
            self._verdicts[node] = (self.roster.version_of(node), now_ms, standing)
        return standing

    def own(self) -> Standing:
        return self.standing(self.key.public)

    def may_invite(self) -> bool:
        own = self.own()
        return own.state is State.VALID and own.role is Role.OPERATOR

    def grant_to_show(self) -> bytes:
        """The grant that this node shows in handshakes: its best one; empty where it has none."""
        grant = self.own().grant
        return grant.statement.signed if grant is not None else b""

    def revocations_digest(self) -> bytes:
        revocations = self.roster.revocations()
        return digest_of_revocations(revocations) if revocations else b""

    def learn_shown(self, signed: bytes) -> None:
        """Take in a grant that a peer showed. One that does not hold is no grant; the handshake goes on without."""
        if signed:
            self._replica.ingest(signed, now_ms=self._clock.now_ms())

    # --- signing --------------------------------------------------------------------------------------------------------------

    def grant(self, subject: bytes, role: Role) -> Grant:
        """Sign a grant for `subject`. Raises Refused where this node may not."""
        key, chain = self._signer(role)
        stamp = self._replica.next_stamp(now_ms=self._clock.now_ms())
        statement = issue(key, formation=self.formation, subject=subject, role=role, stamp=stamp, chain=chain)
        self._replica.publish(statement)
        return read_grant(statement)

    def check_may_grant(self, role: Role) -> None:
        """Raises Refused, with what to do, where this node may not grant that role."""
        self._signer(role)

    def revoke(self, subject: bytes, reason: str) -> Statement:
        """Sign a revocation. Raises Refused where this node may not."""
        key = self.check_may_revoke(subject)
        stamp = self._replica.next_stamp(now_ms=self._clock.now_ms())
        statement = revoke(key, formation=self.formation, subject=subject, stamp=stamp, reason=reason)
        return self._replica.publish(statement)

    def check_may_revoke(self, subject: bytes) -> KeyPair:
        """The key that may revoke `subject`. Raises Refused where this node holds none."""
        if subject == self.key.public:
            raise UsageError("a node can't revoke itself", hint="revoke it from another operator's node")
        standing = self.standing(subject)
        if standing.state is State.REVOKED and self.roster.revocation_of(subject) is not None:
            raise Refused(f"the node {short(subject)} is revoked already", code=Code.CONFLICT)
        if not self.roster.knows(subject):
            raise Refused(f"the node {short(subject)} is none of this formation", code=Code.NOT_FOUND, hint="`skerry node list` shows them")
        root = self._keyring.load(ROOT_KEY)
        if root is not None:
            return KeyPair.from_seed(root)
        if self.roster.was_operator(subject):
            raise Refused(
                "only the root key can revoke an operator, and this home does not hold it",
                code=Code.NOT_GRANTED,
                hint="do it at the founding home, or bring the root key here: `skerry formation restore FILE`",
            )
        return self._signer(Role.MEMBER)[0]

    def depart(self, reason: str = "") -> Statement:
        """Sign that this node leaves: its grants are over."""
        return self._end(self.key, self.key.public, reason)

    def dismiss(self, subject: bytes, reason: str = "") -> Statement:
        """Sign that a node which is gone belongs no more, until somebody invites it again. Raises Refused where this node may not."""
        standing = self.standing(subject)
        if not standing.belongs:
            raise Refused(f"the node {short(subject)} does not belong any more: {standing.reason}", code=Code.CONFLICT)
        root = self._keyring.load(ROOT_KEY)
        if root is not None:
            return self._end(KeyPair.from_seed(root), subject, reason)
        if self.roster.was_operator(subject):
            raise Refused(
                "only the root key can end an operator's membership, and this home does not hold it",
                code=Code.NOT_GRANTED,
                hint="do it at the founding home, or let the operator go by itself: `skerry leave`",
            )
        return self._end(self._signer(Role.MEMBER)[0], subject, reason)

    def _end(self, key: KeyPair, subject: bytes, reason: str) -> Statement:
        stamp = self._replica.next_stamp(now_ms=self._clock.now_ms())
        until_ms = self.roster.granted_until(subject)
        return self._replica.publish(
            depart(key, formation=self.formation, subject=subject, stamp=stamp, grants_until_ms=until_ms, reason=reason)
        )

    def _signer(self, role: Role) -> tuple[KeyPair, Grant | None]:
        if role is Role.OPERATOR:
            seed = self._keyring.load(ROOT_KEY)
            if seed is None:
                raise Refused(
                    "only the root key makes operators, and this home does not hold it",
                    code=Code.NOT_GRANTED,
                    hint="invite from the founding home, or bring the root key here: `skerry formation restore FILE`",
                )
            return KeyPair.from_seed(seed), None
        own = self.own()
        if own.state is not State.VALID or own.role is not Role.OPERATOR or own.grant is None:
            raise Refused(
                f"only an operator grants, and this node is {_said(own)}", code=Code.NOT_GRANTED, hint="ask at an operator's node"
            )
        return self.key, own.grant

    # --- renewal --------------------------------------------------------------------------------------------------------------

    def renewal_due(self) -> bool:
        """Whether half of our grant's life is over."""
        grant = self.own().grant
        return grant is not None and renewal_due(grant.issued_ms, grant.expires_ms, now_ms=self._clock.now_ms())

    def renew_for(self, subject: bytes) -> Grant:
        """Renew a peer's grant in its own role. Raises Refused where it has none that may be renewed."""
        standing = self.standing(subject)
        if not standing.belongs or standing.role is None:
            raise Refused(f"there is no grant to renew: {standing.reason}", code=Code.NOT_GRANTED)
        return self.grant(subject, standing.role)

    def renew_own(self) -> bool:
        """Renew our own grant where this home can: it holds the root key."""
        if not self.holds_root or not self.renewal_due():
            return False
        grant = self.grant(self.key.public, Role.OPERATOR)
        log.info("renewed this node's grant until %d", grant.expires_ms)
        return True

    def restore_root(self, seed: bytes) -> None:
        """Bring the formation's root key into this home, and make this node an operator by it. Raises UsageError for another key."""
        root = KeyPair.from_seed(seed)
        if root.public != self.formation:
            raise UsageError(
                f"that is the root key of the formation {short(root.public)}, and this home is of {short(self.formation)}",
                code=Code.CONFLICT,
                hint="use the backup of this formation",
            )
        self._keyring.save(ROOT_KEY, seed)
        own = self.own()
        if own.role is not Role.OPERATOR or own.state is not State.VALID:
            self.grant(self.key.public, Role.OPERATOR)

    def signs(self) -> frozenset[bytes]:
        """The authors whose keys are here."""
        return frozenset(self._keys())

    def _keys(self) -> dict[bytes, KeyPair]:
        root = self._keyring.load(ROOT_KEY)
        return {key.public: key for key in (self.key, *([KeyPair.from_seed(root)] if root is not None else []))}

    def say_again(self, dropped: list[Statement]) -> None:
        """What was signed here by a clock that was far ahead, and is dropped for it, is signed anew."""
        keys = self._keys()
        for said in sorted(dropped, key=lambda said: said.kind != "grant"):  # a revocation after the grant that it ends
            key, subject = keys.get(said.author), said.body.get("subject")
            if key is None or not isinstance(subject, bytes):
                continue
            if said.kind == "revocation":
                stamp = self._replica.next_stamp(now_ms=self._clock.now_ms())
                reason = str(said.body.get("reason", ""))
                self._replica.publish(revoke(key, formation=self.formation, subject=subject, stamp=stamp, reason=reason))
            elif said.kind == "grant":
                try:
                    self.grant(subject, Role(said.body["role"]))
                except SkerryError as error:
                    log.warning("the grant of %s was signed by a wrong clock, and can't be signed anew: %s", short(subject), error)

    def reissue(self, issuer: bytes, *, keep: list[bytes]) -> int:
        """Grant again, under our own key, to those of an operator's members that are kept. Before it is revoked: a crash between the two
        leaves nobody without a grant."""
        count = 0
        for grant in self.roster.granted_by(issuer):
            if grant.subject in keep and self.roster.revocation_of(grant.subject) is None and grant.role is not Role.OPERATOR:
                self.grant(grant.subject, grant.role)
                count += 1
        return count


_NO_VERDICT = ((-1, 0), 0, Standing(State.UNKNOWN))


def _said(standing: Standing) -> str:
    role = standing.role.value if standing.role else "no member"
    return f"{role} ({standing.state.value})"
