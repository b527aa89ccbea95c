module nekocheik.deployment_monitoring/probe-server

go 1.21
