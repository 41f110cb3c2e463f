module github.com/keybrake/keybrake/test

go 1.26.8

require github.com/stripe/stripe-mock v0.203.0

replace github.com/keybrake/keybrake => ../
