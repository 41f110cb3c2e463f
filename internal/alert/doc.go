// Package alert tells people outside that something needs them: rules look at what the server sees, the watcher keeps what is
// wrong in the store and writes a message for each target in the same transaction, and a sender for each target delivers it, at
// least once. Nothing of it is on the path of a call.
package alert
