package ledger

import "slices"

// undo remembers what an operation changed, so that one which fails half-way (a row that could not be
// read) leaves no trace: the Book goes on to serve the other callers of its batch and writes their changes.
type undo struct {
	accounts     []accountBefore
	objects      []objectBefore
	reservations []reservationBefore
}

type accountBefore struct {
	key     AccountKey
	value   Account
	changed bool
}

type objectBefore struct {
	key     ObjectKey
	value   Object
	changed bool
}

type reservationBefore struct {
	id ReservationID
	// value is nil for a reservation that no earlier operation of this Book changed: it is read again.
	value *Reservation
}

// touchAccount marks an account as changed. Call it before changing the account, like its siblings.
func (b *Book) touchAccount(k AccountKey, a *Account) {
	_, changed := b.changedAccounts[k]
	b.before.accounts = append(b.before.accounts, accountBefore{k, *a, changed})
	if !changed {
		b.changedAccounts[k] = struct{}{}
	}
}

// touchObject marks an object as changed. Its slices are never written in place, so the old ones are good
// for going back to.
func (b *Book) touchObject(k ObjectKey, o *Object) {
	_, changed := b.changedObjects[k]
	b.before.objects = append(b.before.objects, objectBefore{k, *o, changed})
	if !changed {
		b.changedObjects[k] = struct{}{}
	}
}

// touch marks a reservation as changed, unless it was created in this Book and is written whole anyway.
func (b *Book) touch(r *Reservation) {
	for i := range b.before.reservations {
		if b.before.reservations[i].id == r.ID {
			return
		}
	}
	created := len(b.created) > 0 && r.ID >= b.created[0].ID
	_, changed := b.changed[r.ID]
	before := reservationBefore{id: r.ID}
	if created || changed {
		value := *r
		value.Effects = slices.Clone(r.Effects)
		value.Counted = slices.Clone(r.Counted)
		value.Handed = slices.Clone(r.Handed)
		value.Holds = slices.Clone(r.Holds)
		before.value = &value
	}
	b.before.reservations = append(b.before.reservations, before)
	if !created {
		b.changed[r.ID] = struct{}{}
	}
}

// keep ends an operation that succeeded.
func (b *Book) keep() {
	b.before.accounts = b.before.accounts[:0]
	b.before.objects = b.before.objects[:0]
	b.before.reservations = b.before.reservations[:0]
}

// rollBack ends an operation that failed: everything is as it was before, newest change first.
func (b *Book) rollBack() {
	for _, was := range slices.Backward(b.before.accounts) {
		*b.accounts[was.key] = was.value
		if !was.changed {
			delete(b.changedAccounts, was.key)
		}
	}
	for _, was := range slices.Backward(b.before.objects) {
		*b.objects[was.key] = was.value
		if !was.changed {
			delete(b.changedObjects, was.key)
		}
	}
	for _, was := range slices.Backward(b.before.reservations) {
		if was.value == nil {
			delete(b.reservations, was.id)
			delete(b.changed, was.id)
			continue
		}
		*b.reservations[was.id] = *was.value
	}
	b.keep()
}
