package sandbox

// cardSource is a payment method as the source that it also is: what older
// integrations charge.
type cardSource struct{ *paymentMethod }

func (o cardSource) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"card", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"card","address_city":null,"address_country":null,"address_line1":null,"address_line1_check":null,` +
		`"address_line2":null,"address_state":null,"address_zip":null,"address_zip_check":null,"allow_redisplay":"unspecified"`)
	e.str("brand", o.brand)
	e.str("country", "US")
	e.ref("customer", o.customer, x)
	e.constant(`"cvc_check":"pass","dynamic_last4":null`)
	e.int("exp_month", o.expMonth)
	e.int("exp_year", o.expYear)
	e.str("fingerprint", o.fingerprint)
	e.str("funding", o.funding)
	e.str("last4", o.last4)
	e.metadata(o.md)
	e.constant(`"name":null,"regulated_status":"unregulated","tokenization_method":null`)
	e.close()
}
