package sandbox_test

import (
	"bytes"
	"mime/multipart"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestTokensAreSpentOnce(t *testing.T) {
	r := newRig(t)
	card := r.ok("POST", "/v1/tokens", "card[number]=4242424242424242&card[exp_month]=8&card[exp_year]=2030&card[cvc]=123")
	r.want(card.str("card.last4"), "4242", "last4")
	id := card.str("id")
	r.ok("POST", "/v1/charges", "amount=900&currency=usd&source="+id)
	r.want(r.ok("GET", "/v1/tokens/"+id, "").at("used"), true, "used")
	r.refused(400, "token_already_used", "POST", "/v1/charges", "amount=900&currency=usd&source="+id)
	bank := r.ok("POST", "/v1/tokens", "bank_account[account_number]=000123456789&bank_account[country]=US&bank_account[routing_number]=110000000").str("id")
	shop := r.connect()
	r.want(r.ok("POST", "/v1/accounts/"+shop+"/external_accounts", "external_account="+bank).str("last4"), "6789", "the bank behind it")
	r.refused(400, "", "POST", "/v1/charges", "amount=900&currency=usd&source="+r.ok("POST", "/v1/tokens",
		"bank_account[account_number]=000123456789&bank_account[country]=US").str("id"))
	r.refused(400, "parameter_missing", "POST", "/v1/tokens", "")
}

func TestACustomersSources(t *testing.T) {
	r := newRig(t)
	ada, ben := "/v1/customers/"+r.seed.Customers[0].ID, "/v1/customers/"+r.seed.Customers[1].ID
	card := r.ok("POST", ada+"/sources", "source=tok_mastercard&metadata[a]=b").str("id")
	bank := r.ok("POST", ada+"/sources", "source=btok_us").str("id")
	src := r.ok("POST", "/v1/sources", "type=card&token=tok_visa&metadata[a]=b").str("id")
	r.want(r.ok("POST", ada+"/sources", "source="+src).str("object"), "source", "attached")
	r.ok("POST", "/v1/charges", "amount=700&currency=usd&customer="+r.seed.Customers[0].ID+"&source="+src)
	r.want(r.moved(sandbox.EffectPayment), int64(700), "charged")
	for path, want := range map[string]int{"/sources": 4, "/sources?object=bank_account": 1, "/cards": 2, "/bank_accounts": 1, "/sources?limit=2": 2} {
		r.want(len(r.ok("GET", ada+path, "").ids()), want, path)
	}
	r.want(r.ok("POST", ada+"/sources/"+card, "exp_month=9&exp_year=2031").num("exp_month"), int64(9), "exp_month")
	r.ok("POST", ada+"/sources/"+bank, "account_holder_name=Ada")
	r.refused(400, "", "POST", ada+"/sources/"+bank+"/verify", "amounts[]=1&amounts[]=2")
	r.want(r.ok("POST", ada+"/bank_accounts/"+bank+"/verify", "amounts[]=32&amounts[]=45").str("status"), "verified", "verified")
	r.refused(404, "resource_missing", "GET", ben+"/sources/"+card, "")
	r.refused(404, "resource_missing", "GET", ben+"/sources/"+bank, "")
	r.ok("DELETE", ada+"/sources/"+card, "")
	r.ok("DELETE", ada+"/bank_accounts/"+bank, "")
	r.refused(404, "resource_missing", "GET", ada+"/sources/"+card, "")
	r.refused(404, "resource_missing", "GET", ada+"/sources/"+bank, "")
	r.refused(402, "card_declined", "POST", ada+"/sources", "source=tok_chargeDeclined")
	r.ok("GET", "/v1/sources/"+src, "")
	r.ok("POST", "/v1/sources/"+src, "metadata[a]=c")
	r.ok("GET", "/v1/sources/"+src+"/source_transactions", "")
	r.refused(404, "resource_missing", "GET", "/v1/sources/src_none", "")
	r.refused(400, "", "POST", "/v1/sources", "type=sepa_debit")
}

// upload is a multipart body with a file and fields, and its content type.
func upload(t *testing.T, name, text string, fields ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func TestFilesAreUploadedAndLinked(t *testing.T) {
	r := newRig(t)
	body, typ := upload(t, "letter.pdf", "evidence", "purpose", "dispute_evidence", "file_link_data[create]", "true")
	file := r.ok("POST", "/v1/files", body, "Content-Type", typ)
	r.want(file.num("size"), int64(8), "size")
	r.want(file.str("type"), "pdf", "type")
	r.want(len(file.at("links.data").([]any)), 1, "links made with it")
	id := file.str("id")
	r.want(len(r.ok("GET", "/v1/files?purpose=dispute_evidence", "").ids()), 1, "by purpose")
	dp, _ := r.disputed("createDispute")
	r.want(r.ok("POST", "/v1/disputes/"+dp, "evidence[receipt]="+id+"&submit=false&expand[]=evidence.receipt").str("evidence.receipt.id"), id, "as evidence")

	at := r.clock.now().Add(time.Hour).Unix()
	link := r.ok("POST", "/v1/file_links", form("file", id, "expires_at", itoa(at), "metadata[a]", "b")).str("id")
	r.want(len(r.ok("GET", "/v1/file_links?file="+id+"&expired=false", "").ids()), 2, "live links")
	r.clock.advance(2 * time.Hour)
	r.want(len(r.ok("GET", "/v1/file_links?expired=true", "").ids()), 1, "expired links")
	r.want(r.ok("POST", "/v1/file_links/"+link, "expires_at=now").at("expired"), true, "ended")
	r.refused(400, "", "POST", "/v1/files", "file=x&purpose=dispute_evidence")
	r.refused(400, "resource_missing", "POST", "/v1/file_links", "file=file_none")
	big, typ := upload(t, "big.bin", string(make([]byte, 2<<20)), "purpose", "dispute_evidence")
	r.ok("POST", "/v1/files", big, "Content-Type", typ)
}

func TestBalanceSettingsMakePayoutsByThemselves(t *testing.T) {
	r := newRig(t)
	r.want(r.ok("GET", "/v1/balance_settings", "").str("payments.payouts.schedule.interval"), "manual", "at first")
	before := r.balance("")
	set := r.ok("POST", "/v1/balance_settings", "payments[payouts][schedule][interval]=daily&payments[payouts][minimum_balance_by_currency][usd]=1000000")
	r.want(set.str("payments.payouts.schedule.interval"), "daily", "then")
	r.clock.advance(25 * time.Hour)
	po := r.ok("GET", "/v1/payouts?limit=1", "")
	r.want(po.at("data.0.automatic"), true, "automatic")
	r.want(po.num("data.0.amount"), before-1_000_000, "all above the minimum")
	r.want(r.moved(sandbox.EffectPayout), before-1_000_000, "moved")
	r.ok("POST", "/v1/topups", "amount=5000&currency=usd")
	r.ok("POST", "/v1/balance_settings", "payments[payouts][schedule][interval]=manual")
	r.ok("POST", "/v1/charges", "amount=5000&currency=usd&source=tok_visa")
	r.clock.advance(72 * time.Hour)
	r.want(r.moved(sandbox.EffectPayout), before-1_000_000, "no more by itself")
}

func TestTaxIsWorkedOutRecordedAndReversed(t *testing.T) {
	r := newRig(t)
	calc := r.ok("POST", "/v1/tax/calculations", "currency=usd&customer="+r.seed.Customers[0].ID+"&line_items[0][amount]=1000&line_items[0][reference]=a"+
		"&line_items[1][amount]=1085&line_items[1][tax_behavior]=inclusive&expand[]=line_items")
	r.want(calc.num("tax_amount_exclusive"), int64(85), "on top")
	r.want(calc.num("tax_amount_inclusive"), int64(85), "within")
	r.want(calc.num("amount_total"), int64(2170), "total")
	r.want(len(r.ok("GET", "/v1/tax/calculations/"+calc.str("id")+"/line_items", "").ids()), 2, "lines")
	sale := r.ok("POST", "/v1/tax/transactions/create_from_calculation", "reference=o1&calculation="+calc.str("id")+"&metadata[a]=b").str("id")
	lines := r.ok("GET", "/v1/tax/transactions/"+sale+"/line_items", "").ids()
	back := func(more string) *reply {
		return r.ok("POST", "/v1/tax/transactions/create_reversal", "reference=r&original_transaction="+sale+"&expand[]=line_items"+more)
	}
	r.want(back("&mode=full").num("line_items.data.0.amount"), int64(-1000), "in full")
	r.want(back("&mode=partial&flat_amount=-1085").num("line_items.data.0.amount"), int64(-500), "half of it")
	r.want(back("&mode=partial&line_items[0][original_line_item]="+lines[0]+"&line_items[0][amount]=-10&line_items[0][amount_tax]=-1"+
		"&line_items[0][reference]=x").num("line_items.data.0.amount_tax"), int64(-1), "a line")
	r.refused(400, "parameter_missing", "POST", "/v1/tax/transactions/create_reversal", "reference=r&mode=partial&original_transaction="+sale)
	r.refused(400, "parameter_missing", "POST", "/v1/tax/calculations", "currency=usd&line_items[0][amount]=1000")
	r.ok("GET", "/v1/tax/transactions/"+sale, "")
}

func TestWhatWorksWithoutTheKeyIsHandedOut(t *testing.T) {
	r := newRig(t)
	key := r.ok("POST", "/v1/ephemeral_keys", "customer="+r.seed.Customers[0].ID)
	if key.str("secret") == "" {
		t.Error("a key without a secret")
	}
	r.ok("DELETE", "/v1/ephemeral_keys/"+key.str("id"), "")
	r.refused(400, "parameter_missing", "POST", "/v1/ephemeral_keys", "")
	r.ok("POST", "/v1/customer_sessions", "customer="+r.seed.Customers[0].ID+"&components[pricing_table][enabled]=true")
	r.ok("POST", "/v1/terminal/connection_tokens", "")
}
