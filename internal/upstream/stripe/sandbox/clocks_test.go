package sandbox_test

import (
	"fmt"
	"testing"
	"time"
)

func TestATestClockHasATimeOfItsOwn(t *testing.T) {
	r := newRig(t)
	start := r.clock.now().Unix()
	clock := r.ok("POST", "/v1/test_helpers/test_clocks", fmt.Sprintf("frozen_time=%d&name=year end", start)).str("id")
	r.refused(400, "parameter_missing", "POST", "/v1/test_helpers/test_clocks", "name=x")
	owner := r.ok("POST", "/v1/customers", "test_clock="+clock+"&source=tok_visa").str("id")
	r.refused(400, "resource_missing", "POST", "/v1/customers", "test_clock=clock_none")
	in := r.ok("POST", "/v1/invoices", "customer="+owner+"&auto_advance=true").str("id")
	r.ok("POST", "/v1/invoiceitems", "customer="+owner+"&invoice="+in+"&amount=900")

	r.clock.advance(2 * time.Hour)
	r.want(r.ok("GET", "/v1/invoices/"+in, "").str("status"), "draft", "the wall's time does not matter")
	moved := r.ok("POST", "/v1/test_helpers/test_clocks/"+clock+"/advance", fmt.Sprintf("frozen_time=%d", start+3600))
	r.want(moved.str("status"), "advancing", "the answer")
	r.want(r.ok("GET", "/v1/test_helpers/test_clocks/"+clock, "").str("status"), "ready", "afterwards")
	paid := r.ok("GET", "/v1/invoices/"+in, "")
	r.want(paid.str("status"), "paid", "the clock's time does")
	r.want(paid.num("status_transitions.paid_at"), start+3600, "paid at the clock's time")
	r.refused(400, "", "POST", "/v1/test_helpers/test_clocks/"+clock+"/advance", fmt.Sprintf("frozen_time=%d", start))

	r.want(r.ok("GET", "/v1/customers?test_clock="+clock, "").ids()[0], owner, "customers on the clock")
	for _, id := range r.ok("GET", "/v1/customers?limit=100", "").ids() {
		r.want(id == owner, false, "a customer on a clock is listed with the clock only")
	}
	r.want(len(r.ok("GET", "/v1/test_helpers/test_clocks", "").ids()), 1, "clocks")
	r.want(r.ok("GET", "/v1/customers/"+owner+"?expand[]=test_clock", "").str("test_clock.name"), "year end", "expanded")
	r.ok("DELETE", "/v1/test_helpers/test_clocks/"+clock, "")
	r.want(r.ok("GET", "/v1/customers/"+owner, "").at("deleted"), true, "its customers go with it")
	r.refused(404, "resource_missing", "GET", "/v1/test_helpers/test_clocks/"+clock, "")
}

func TestTimePassesOnCommand(t *testing.T) {
	r := newRig(t)
	in := r.ok("POST", "/v1/invoices", "customer="+r.seed.Customers[0].ID+"&auto_advance=true").str("id")
	r.ok("POST", "/v1/invoiceitems", "invoice="+in+"&amount=900")
	r.ok("POST", "/_sandbox/advance", `{"seconds":3599}`)
	r.want(r.ok("GET", "/v1/invoices/"+in, "").str("status"), "draft", "just before the hour")
	r.ok("POST", "/_sandbox/advance", `{"seconds":1}`)
	r.want(len(r.s.Effects()), 1, "what is due happens with the command, not with the next call")
	r.want(r.ok("GET", "/v1/invoices/"+in, "").str("status"), "paid", "at the hour")
	if out := r.do("POST", "/_sandbox/advance", `{"seconds":-5}`); out.status != 400 {
		t.Errorf("time went back: %d", out.status)
	}
}
