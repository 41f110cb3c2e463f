package store

// Safety is what a store can lose of what it has acknowledged.
type Safety struct {
	// Remembers: losing a whole machine loses nothing. Another one has everything before anybody is answered.
	Remembers bool
	// Why says it in a sentence.
	Why string
}
