"""`archduel device`: latencies of networks on another device than this one."""
