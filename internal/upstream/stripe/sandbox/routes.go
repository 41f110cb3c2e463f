package sandbox

import (
	"net/http"
	"strings"
)

// handler runs one operation under the server's lock.
type handler func(*call) (view, *stripeError)

// operation is one route of Stripe's that the sandbox serves.
type operation struct {
	method   string
	pattern  string
	resource string // the permission it needs
	access   Access
	answers  kind
	handler  handler
	params   *typ
	segments []string
}

// router finds operations: by the whole path where it is literal, else by its segments.
type router struct {
	literal map[string]*operation
	byShape map[string][]*operation
}

func shape(method string, segments int) string { return method + string(rune('0'+segments)) }

func newRouter() *router {
	rt := &router{literal: map[string]*operation{}, byShape: map[string][]*operation{}}
	table := loadParams()
	for _, op := range operations() {
		params, ok := table[op.method+" "+op.pattern]
		if !ok {
			panic("sandbox: no parameters for " + op.method + " " + op.pattern) // a broken table, caught by any test
		}
		op.params = params
		op.access = Write
		if op.method == http.MethodGet || op.pattern == "/v1/invoices/create_preview" {
			op.access = Read
		}
		op.segments = strings.Split(op.pattern, "/")
		if !strings.Contains(op.pattern, "{") {
			rt.literal[op.method+" "+op.pattern] = op
			continue
		}
		key := shape(op.method, len(op.segments))
		rt.byShape[key] = append(rt.byShape[key], op)
	}
	return rt
}

// match finds the operation for a clean path; literals beat placeholders.
func (rt *router) match(method, path string) (*operation, []string) {
	if op := rt.literal[method+" "+path]; op != nil {
		return op, nil
	}
	segments := strings.Split(path, "/")
	for _, op := range rt.byShape[shape(method, len(segments))] {
		if args, ok := op.bind(segments); ok {
			return op, args
		}
	}
	return nil, nil
}

func (op *operation) bind(segments []string) ([]string, bool) {
	var args []string
	for i, want := range op.segments {
		if strings.HasPrefix(want, "{") {
			args = append(args, segments[i])
		} else if want != segments[i] {
			return nil, false
		}
	}
	return args, true
}

func get(pattern, resource string, answers kind, h handler) *operation {
	return &operation{method: http.MethodGet, pattern: pattern, resource: resource, answers: answers, handler: h}
}

func post(pattern, resource string, answers kind, h handler) *operation {
	return &operation{method: http.MethodPost, pattern: pattern, resource: resource, answers: answers, handler: h}
}

func remove(pattern, resource string, h handler) *operation {
	return &operation{method: http.MethodDelete, pattern: pattern, resource: resource, answers: kindNone, handler: h}
}

// routeTables are the operations served, a table for each room of the API.
var routeTables = [][]*operation{
	accountRoutes,
	balanceRoutes,
	cashRoutes,
	catalogRoutes,
	chargeRoutes,
	checkoutRoutes,
	climateRoutes,
	clockRoutes,
	coreV2Routes,
	couponRoutes,
	credentialRoutes,
	creditNoteRoutes,
	customerRoutes,
	discountRoutes,
	disputeRoutes,
	eventV2Routes,
	externalRoutes,
	feeRoutes,
	fileRoutes,
	grantRoutes,
	intentRoutes,
	invoicePaymentRoutes,
	invoiceRoutes,
	issuingRoutes,
	itemRoutes,
	linkRoutes,
	meterRoutes,
	methodRoutes,
	outboundRoutes,
	payoutRoutes,
	payoutV2Routes,
	planRoutes,
	priceRoutes,
	promotionRoutes,
	quoteRoutes,
	refundRoutes,
	scheduleRoutes,
	searchRoutes,
	setupRoutes,
	settingRoutes,
	shippingRoutes,
	sourceRoutes,
	spendingRoutes,
	storageRoutes,
	subItemRoutes,
	subscriptionRoutes,
	taxRoutes,
	taxingRoutes,
	topupRoutes,
	transferRoutes,
	treasuryFlowRoutes,
	treasuryRoutes,
	vaultRoutes,
}

// operations is everything served, with copies of its own: servers do not share what newRouter fills in.
func operations() []*operation {
	var all []*operation
	for _, table := range routeTables {
		for _, op := range table {
			own := *op
			all = append(all, &own)
		}
	}
	return all
}

// Operations lists what the sandbox serves, each as method and template: "GET /v1/charges/{charge}".
func Operations() []string {
	var all []string
	for _, op := range operations() {
		all = append(all, op.method+" "+op.pattern)
	}
	return all
}
