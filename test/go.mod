module github.com/keybrake/keybrake/test

go 1.26.8

require (
	github.com/keybrake/keybrake v0.0.0-00010101000000-000000000000
	github.com/stripe/stripe-mock v0.203.0
)

require github.com/goccy/go-yaml v1.19.2 // indirect

replace github.com/keybrake/keybrake => ../
