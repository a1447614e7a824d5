"""What runs inside the Pods of feature views: bringing them online, taking them away, making training sets."""
