package money

import "strings"

// Stripe's exponents are not ISO 4217's: ISK and UGX have no minor unit in life but two decimals in the
// API, MGA has one in ISO and none at Stripe. Source: Stripe's currencies page (zero-decimal,
// three-decimal and special-case sections).
const (
	zeroDecimal  = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
	threeDecimal = "bhd jod kwd omr tnd"
	twoDecimal   = "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd " +
		"btn bwp byn bzd cad cdf chf cny cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq " +
		"gyd hkd hnl hrk htg huf idr ils inr isk jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop " +
		"mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek " +
		"sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah ugx uyu uzs wst xcd xcg yer zar zmw"
)

var exponents = func() map[Currency]int {
	m := make(map[Currency]int, 160)
	for exp, codes := range map[int]string{0: zeroDecimal, 2: twoDecimal, 3: threeDecimal} {
		for code := range strings.FieldsSeq(codes) {
			m[Currency(code)] = exp
		}
	}
	return m
}()

// Exponent returns how many decimals Stripe's amounts have in the currency: 0, 2 or 3. An unknown
// currency has none and must be denied: guessing is a factor of a hundred.
func (c Currency) Exponent() (int, bool) {
	exp, ok := exponents[c]
	return exp, ok
}
