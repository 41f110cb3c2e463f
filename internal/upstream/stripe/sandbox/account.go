package sandbox

// account is one Stripe account: its objects and its money. The one whose keys
// are used is the platform; the others are accounts connected to it.
type account struct {
	*Server
	accountID string
	self      *thing // the account as an object
	idem      idempotency
	ledgers   map[string]int64 // available balance by currency, minor units
	agenda    agenda
	settings  map[string]any // of payouts; nil until they were asked for
	rounds    int            // how often they were changed
	shelves   []shelf
	things    map[kind]*collection[*thing]
	scopes    map[kind]string // which permission reads an object of a kind

	customers    collection[*customer]
	methods      collection[*paymentMethod]
	intents      collection[*paymentIntent]
	charges      collection[*charge]
	refunds      collection[*refund]
	invoices     collection[*invoice]
	items        collection[*invoiceItem]
	products     collection[*product]
	prices       collection[*price]
	payouts      collection[*payout]
	transactions collection[*balanceTransaction]
	adjustments  collection[*customerTransaction]
	transfers    collection[*transfer]
	reversals    collection[*reversal]
	fees         collection[*applicationFee]
	feeRefunds   collection[*feeRefund]
	topups       collection[*topup]
	events       collection[*event]
	billingShelves
}

// shelf is a collection without its type.
type shelf interface {
	find(id string) (view, bool)
	resource() string
	count() (kept, dropped int)
}

// newAccount makes an account with no objects in it.
func (s *Server) newAccount(id string) *account {
	objects, events, keys := keepObjects, keepEvents, keepKeys
	if s.opts.Unbounded {
		objects, events, keys = 0, 0, 0
	}
	a := &account{Server: s, accountID: id, ledgers: map[string]int64{}, scopes: map[kind]string{},
		idem: idempotency{byKey: map[string]*remembered{}, limit: keys}}
	open(a, &a.customers, "customer", "customers", objects)
	open(a, &a.methods, "payment_method", "payment_methods", objects)
	open(a, &a.intents, "payment_intent", "payment_intents", objects)
	open(a, &a.charges, "charge", "charges", objects)
	open(a, &a.refunds, "refund", "refunds", objects)
	open(a, &a.invoices, "invoice", "invoices", objects)
	open(a, &a.items, "invoiceitem", "invoiceitems", objects)
	open(a, &a.products, "product", "products", objects)
	open(a, &a.prices, "price", "prices", objects)
	a.scopes["plan"] = "plans" // a price that recurs, as older routes show it
	open(a, &a.payouts, "payout", "payouts", objects)
	open(a, &a.transactions, "balance_transaction", "balance_transactions", objects)
	open(a, &a.adjustments, "customer_balance_transaction", "customers.balance_transactions", objects)
	open(a, &a.events, "event", "events", events)
	open(a, &a.transfers, "transfer", "transfers", objects)
	open(a, &a.reversals, "transfer_reversal", "transfers.reversals", objects)
	open(a, &a.fees, "application_fee", "application_fees", objects)
	open(a, &a.feeRefunds, "fee_refund", "application_fees.refunds", objects)
	open(a, &a.topups, "topup", "topups", objects)
	a.openThings(objects)
	a.openBilling(objects)
	return a
}

// open makes a collection ready for objects of a kind, which need the permission
// resource to be read, and which ids can then be expanded into.
func open[T record](a *account, c *collection[T], object kind, resource string, limit int) {
	*c = newCollection[T](string(object), limit)
	c.scope = resource
	a.shelves = append(a.shelves, c)
	a.scopes[object] = resource
}

// find is the object behind an id, with the resource whose read permission it
// needs. Nil where there is none.
func (a *account) find(id string) (view, string) {
	for _, shelf := range a.shelves {
		if v, ok := shelf.find(id); ok {
			return v, shelf.resource()
		}
	}
	return nil, ""
}

// connect makes the account behind an account object.
func (s *Server) connect(self *thing) *account {
	a := s.newAccount(self.id)
	a.self = self
	s.connected = append(s.connected, a)
	return a
}

// connectedAccount is the one with this id, nil where there is none.
func (s *Server) connectedAccount(id string) *account {
	for _, a := range s.connected {
		if a.accountID == id && !a.self.deleted {
			return a
		}
	}
	return nil
}

// within runs do with the call on another account's books.
func (c *call) within(a *account, do func()) {
	was := c.s
	c.s = a
	defer func() { c.s = was }()
	do()
}
