"""The load of InferenceEndpoints followed: reports in, `policy.scaling` asked, worker Deployments scaled."""
